"""The worker's side of a budget: it joins, leases slices ahead of need, and continues without the budget if it must."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable

from ..core.policy.leasing import LeaseRequest, Share
from ..errors import ConfigurationError
from .base import Budget, LocalBudget, SharedLimitsError

__all__ = ["Leases", "open_budget"]

_log = logging.getLogger("openaiasync")

PATIENCE = 0.25  # seconds for an answer of the budget before the worker continues without it
JOINING = 5.0  # the same before the first request
IDLE = 0.1  # seconds after which a worker without rows looks again


class Leases:
    """The leases of one worker in one budget. `url` must not be shown: it may hold a password."""

    loop: asyncio.AbstractEventLoop
    """The one of the connection, once it is used."""

    def __init__(self, url: str, rpm: float | None, tpm: float | None) -> None:
        self._budget: Budget = open_budget(url)
        self._limits = (rpm, tpm)
        self.share: Share = Share(os.urandom(8).hex(), rpm, tpm)
        self._joined = False
        self._turn: asyncio.Lock | None = None

    async def join(self) -> None:
        """Check that the budget can be used, before anything is sent.

        Raises `SharedLimitsError` where it cannot be reached, `ConfigurationError` where it has other limits, another
        format, or does not permit it.
        """
        self._follow_loop()
        assert self._turn is not None
        async with self._turn:
            if not self._joined:
                try:
                    await self._join()
                except BaseException:
                    self._budget.drop()
                    raise

    async def _join(self) -> None:
        rpm, tpm = self._limits
        request = LeaseRequest(worker=self.share.worker, event="join", rpm=rpm, tpm=tpm)
        try:
            async with asyncio.timeout(JOINING):
                grant = await self._budget.lease(request)
        except TimeoutError:
            raise SharedLimitsError(f"the store of the shared limits did not answer within {JOINING:g} s") from None
        if grant.error == "format":
            raise ConfigurationError(
                "the shared limits are in use by another version of this library: use the same one everywhere, or "
                "another name"
            )
        if grant.error:
            raise ConfigurationError(
                f"the shared limits are in use with rpm={grant.rpm} and tpm={grant.tpm}, not with rpm={rpm} and "
                f"tpm={tpm}: all processes have to give the same ones, or another name"
            )
        self._joined = True

    async def renew(self, rows: float) -> None:
        """Lease the next slice for so many rows; continue without the budget if it does not answer."""
        self._follow_loop()
        share = self.share
        request = share.request(self.loop.time(), rows)
        try:
            async with asyncio.timeout(PATIENCE):
                grant = await self._budget.lease(request)
            if grant.error:
                raise SharedLimitsError("the shared limits were taken over by another version of this library")
        except (SharedLimitsError, ConfigurationError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                self._budget.drop()
            if share.lost(self.loop.time()):
                reason = "it does not answer" if isinstance(error, TimeoutError) else error
                _log.warning("the shared limits are not available, continuing with 80 %% of the last share: %s", reason)
            return
        if not share.reached:
            _log.info("the shared limits are available again")
        share.granted(self.loop.time(), request, grant)

    def change(self, rpm: float | str | None, tpm: float | str | None) -> None:
        """Change the limits for all workers; ``"same"`` keeps one."""
        share = self.share
        share.change(share.rpm if isinstance(rpm, str) else rpm, share.tpm if isinstance(tpm, str) else tpm)

    async def turn(self, rows: Callable[[], float]) -> None:
        """Lease a slice for a call that waits, unless another call has done so meanwhile."""
        self._follow_loop()
        assert self._turn is not None
        async with self._turn:
            if self.share.due < float("inf") and self.share.lease_at > self.loop.time():
                return
            await asyncio.sleep(max(0.0, self.share.lease_at - self.loop.time()))
            await self.renew(rows())

    async def keep(self, rows: Callable[[], float], granted: Callable[[], object]) -> None:
        """Lease slices ahead while there are rows, until cancelled; `granted` is called after each."""
        loop = asyncio.get_running_loop()
        requested = 0.0
        try:
            while True:
                wanted = rows()
                if wanted > 0 or requested > 0:
                    await self.renew(wanted)
                    requested = wanted
                    granted()
                    await asyncio.sleep(max(0.01, self.share.lease_at - loop.time()))
                else:
                    await asyncio.sleep(IDLE)
        finally:
            await self._leave()

    async def _leave(self) -> None:
        """Give the share back, so that others have it at once."""
        request = self.share.request(asyncio.get_running_loop().time(), 0.0)
        request.event = "leave"
        with contextlib.suppress(SharedLimitsError, ConfigurationError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._budget.lease(request)
        await self._budget.aclose()

    def _follow_loop(self) -> None:
        """Start anew in another event loop: connections and locks belong to one."""
        loop = asyncio.get_running_loop()
        if self._turn is None or loop is not self.loop:
            if self._turn is not None and not self.loop.is_closed():
                self._budget.drop()
            self.loop, self._turn = loop, asyncio.Lock()

    def drop(self) -> None:
        """Close the connection; the next lease opens one."""
        self._budget.drop()


def open_budget(url: str) -> Budget:
    """Return the budget of a URL, without connecting. Raises `ConfigurationError` for a URL that no backend has."""
    scheme = url.partition(":")[0].lower()
    if scheme == "local":
        return LocalBudget(url)
    if scheme in ("redis", "rediss", "unix"):
        from .redis import RedisBudget

        return RedisBudget(url)
    raise ConfigurationError("shared limits are kept at redis://, rediss:// or unix:// (extra [redis])")
