"""The worker's side of a budget: joins it, leases slices ahead of need, and continues while it cannot be reached."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import Protocol

from ..core.policy.leasing import ALONE, Share
from ..core.policy.shared_quota import Grant, LeaseRequest
from ..errors import ConfigurationError
from .base import Budget, LocalBudget, SharedLimitsError

__all__ = ["Leases", "Lessee", "open_budget"]

_log = logging.getLogger("openaiasync")

ANSWERED = 0.25  # seconds without an answer of the budget after which the worker continues without it
IDLE = 0.1  # seconds after which a worker without rows looks again
LINGER = 0.5  # seconds without rows after which a worker leaves the budget


class Lessee(Protocol):
    """A source of rows that need slices: a run of rows, or the plain calls of an event loop."""

    lasting: bool
    """Whether it keeps the lease, also without rows, until it is released."""

    def rows(self) -> float:
        """Return how many rows could be sent in the next slice. Called once for each lease."""
        ...

    def granted(self) -> object:
        """Note that there may be a new slice, or none is needed any more. Must not raise."""
        ...


class Leases:
    """The leases of one worker in one budget. Each event loop is a worker, since connections belong to one.

    One task leases for all lessees. It runs while there are rows, and returns what is left at the end.
    """

    def __init__(self, budget: Budget, rpm: float | None, tpm: float | None) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.share: Share = Share(os.urandom(8).hex(), rpm, tpm)
        self.joined: bool = False
        self._budget = budget
        self._joining = asyncio.Lock()
        self._lessees: set[Lessee] = set()
        self._task: asyncio.Task[None] | None = None
        self._sleeper: asyncio.Future[None] | None = None
        self._requested = 0.0  # rows, with the last lease

    # ---------------------------------------------------------------- joining

    async def join(self) -> None:
        """Check that the budget can be used, before anything is sent.

        Raises `SharedLimitsError` where it cannot be reached, `ConfigurationError` where it has other limits, another
        format, or does not permit it.
        """
        async with self._joining:
            if not self.joined:
                try:
                    await self._join()
                except BaseException:
                    self._budget.drop()
                    raise

    async def _join(self) -> None:
        share = self.share
        request = LeaseRequest(worker=share.worker, event="join", rpm=share.rpm, tpm=share.tpm)
        try:
            async with asyncio.timeout(self._budget.patience):
                grant = await self._budget.lease(request)
        except TimeoutError:
            patience = self._budget.patience
            raise SharedLimitsError(f"the store of the shared limits did not answer within {patience:g} s") from None
        if grant.error == "limits":
            raise ConfigurationError(
                f"other processes use these shared limits with rpm={grant.rpm} and tpm={grant.tpm}, not with "
                f"rpm={share.rpm} and tpm={share.tpm}: use the same limits everywhere, or another name"
            )
        _check_format(grant)
        share.joined(grant)
        self.joined = True

    def change(self, rpm: float | None, tpm: float | None) -> None:
        """Change the limits: of the budget, for all workers, or those to join with."""
        if self.joined:
            self.share.change(rpm, tpm)
        else:
            self.share.prepare(rpm, tpm)

    # ---------------------------------------------------------------- lessees

    def attach(self, lessee: Lessee) -> None:
        """Lease slices for a lessee, from now on. Idempotent."""
        self._lessees.add(lessee)
        if self._task is None:
            self._requested = 0.0
            self._task = self.loop.create_task(self._keep())
        elif not self._requested:
            self.wake()

    async def release(self, lessee: Lessee) -> None:
        """Lease no more for a lessee; without another one, give the share back, and close the connection."""
        self._lessees.discard(lessee)
        task = self._task
        if task is not None and not self._lessees:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def drop(self) -> None:
        """Leave the budget, unless there are rows: a client that used it was closed."""
        if self._task is not None and not any(one.lasting or one.rows() for one in self._lessees):
            self._task.cancel()

    def wake(self) -> None:
        """Look for rows now: there may be some again."""
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    # ---------------------------------------------------------------- leasing

    async def _keep(self) -> None:
        busy_at = self.loop.time()
        try:
            while True:
                rows = sum(one.rows() for one in self._lessees)
                now = self.loop.time()
                if rows:
                    busy_at = now
                elif now - busy_at > LINGER and not any(one.lasting for one in self._lessees):
                    return
                if not (rows or self._requested):
                    await self._sleep(IDLE)
                elif (wait := self.share.lease_at - now) > 0.0:
                    await self._sleep(wait)
                    continue
                else:
                    await self._renew(rows)
                    self._requested = rows
                    for one in list(self._lessees):
                        one.granted()
        finally:
            await self._leave()

    async def _sleep(self, seconds: float) -> None:
        self._sleeper = sleeper = self.loop.create_future()
        timer = self.loop.call_later(seconds, _finish, sleeper)
        try:
            await sleeper
        finally:
            timer.cancel()

    async def _renew(self, rows: float) -> None:
        """Lease the next slice; continue without the budget if it does not answer."""
        share, loop = self.share, self.loop
        request = share.request(loop.time(), rows)
        try:
            # Without the budget, nothing waits for its answer.
            async with asyncio.timeout(ANSWERED if share.reached else self._budget.patience):
                grant = await self._budget.lease(request)
            _check_format(grant)
        except (SharedLimitsError, ConfigurationError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                self._budget.drop()
            if share.lost(loop.time()):
                reason = "no answer in time" if isinstance(error, TimeoutError) else error
                _log.warning("the shared limits are not available, continuing with %.0f %% of the last share: %s",
                             100 * ALONE, reason)  # fmt: skip
            return
        if not share.reached:
            _log.info("the shared limits are available again")
        share.granted(loop.time(), request, grant)

    async def _leave(self) -> None:
        """Give the share back, so that others get it at once."""
        self._task = None
        try:
            with contextlib.suppress(SharedLimitsError, ConfigurationError, TimeoutError):
                if self.share.reached:
                    async with asyncio.timeout(ANSWERED):
                        await self._budget.lease(self.share.left())
        except BaseException:
            self._budget.drop()
            raise
        await self._budget.aclose()


def _finish(sleeper: asyncio.Future[None]) -> None:
    if not sleeper.done():
        sleeper.set_result(None)


def _check_format(grant: Grant) -> None:
    if grant.error == "data":
        raise ConfigurationError("the name of the shared limits is in use for other data: use another name")
    if grant.error:
        raise ConfigurationError(
            "another version of this library uses these shared limits: use the same version everywhere, or another name"
        )


def open_budget(url: str) -> Budget:
    """Return the budget of a URL, without connecting.

    Raises `ConfigurationError` for an unknown scheme, a URL without a name, or a package that is not installed.
    """
    scheme = url.partition(":")[0].lower()
    if scheme == "local":
        return LocalBudget(url)
    if scheme in ("redis", "rediss", "unix"):
        from .redis import RedisBudget

        return RedisBudget(url)
    if scheme == "ray":
        from .ray_actor import RayBudget

        return RayBudget(url)
    raise ConfigurationError(
        "shared limits are kept at redis://HOST/0?name=NAME (also rediss:// and unix://), at ray://NAME in a Ray "
        "cluster, or within this process at local:NAME"
    )
