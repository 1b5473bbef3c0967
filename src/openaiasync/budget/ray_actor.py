"""A budget in a Ray cluster: a `Quota` in a named actor, which every job of the cluster reaches by ``ray://NAME``.

The actor needs no CPU, is restarted with its node, and ends ten minutes after the last lease. Its clock is the
monotonic one of its process. Requests and grants are passed as bytes, with the number of their format, so that workers
with another version of this library get a clear error.
"""

from __future__ import annotations

import asyncio
import importlib
import re
import time
from typing import Any

import msgspec

from ..core.policy.shared_quota import FORMAT, Grant, LeaseRequest, Quota
from ..errors import ConfigurationError
from ..installation import install_command
from .base import SharedLimitsError

__all__ = ["QuotaActor", "RayBudget"]

NAMESPACE = "openaiasync"
SLICE_MS = 250.0  # the longest slice: a call of an actor takes several times the CPU of a round trip to Redis
TTL = 600.0  # seconds without a lease after which the actor ends

_encode = msgspec.msgpack.Encoder().encode
_request = msgspec.msgpack.Decoder(LeaseRequest).decode
_grant = msgspec.msgpack.Decoder(Grant).decode


def _ray() -> Any:
    return importlib.import_module("ray")  # which has no complete types


class QuotaActor:
    """The actor: one quota."""

    def __init__(self) -> None:
        self._quota = Quota()
        self._leased_at = time.monotonic()
        self._watch: asyncio.Task[None] | None = None

    async def lease(self, form: int, data: bytes) -> bytes:
        """Return the grant for a request, both as MessagePack."""
        self._leased_at = now = time.monotonic()
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._end_unused())
        return _encode(Grant(error="format") if form != FORMAT else self._quota.lease(now, _request(data)))

    async def _end_unused(self) -> None:
        while (rest := self._leased_at + TTL - time.monotonic()) > 0.0:  # noqa: ASYNC110 (each lease moves the end)
            await asyncio.sleep(rest)
        # Ray restarts an actor that ends in any other way than through a call.
        _ray().get_runtime_context().current_actor.end.remote()

    async def end(self) -> None:
        """End the actor."""
        _ray().actor.exit_actor()


class RayBudget:
    """The budget of ``ray://NAME``, in the cluster that this process is connected to, or the one of ``RAY_ADDRESS``."""

    patience: float = 60.0  # the first lease connects to the cluster, which starts a process for the actor

    def __init__(self, url: str) -> None:
        name = url.partition("://")[2].rstrip("/")
        if not re.fullmatch(r"[\w.-]+", name):
            raise ConfigurationError("shared limits in Ray need a name: ray://NAME, in the cluster that is connected")
        try:
            self._ray = _ray()
        except ImportError:
            raise ConfigurationError(f"limits in Ray need the package ray: {install_command('ray')}") from None
        self._name = name
        self._actor: Any = None
        self._connecting: asyncio.Task[Any] | None = None

    async def lease(self, request: LeaseRequest) -> Grant:
        try:
            if self._actor is None:
                if self._connecting is None:
                    self._connecting = asyncio.create_task(asyncio.to_thread(self._connect))
                # A thread cannot be cancelled: if this lease is, the next one awaits the same thread.
                self._actor = await asyncio.shield(self._connecting)
            request.ms = SLICE_MS
            return _grant(await self._actor.lease.remote(FORMAT, _encode(request)))
        except self._ray.exceptions.ActorUnavailableError as error:
            raise SharedLimitsError(f"the Ray actor of the shared limits is restarted ({error})") from None
        except (self._ray.exceptions.RayError, ConnectionError, RuntimeError, ValueError) as error:
            self.drop()
            reason = str(error).partition("\n")[0]
            raise SharedLimitsError(f"the shared limits in Ray cannot be reached: {reason}") from None

    def _connect(self) -> Any:
        """Return the actor, creating it where it does not exist. Blocks."""
        ray = self._ray
        if not ray.is_initialized():
            ray.init(address="auto", namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
        actor: Any = ray.remote(QuotaActor)
        return actor.options(
            name=f"budget:{self._name}", namespace=NAMESPACE, get_if_exists=True, lifetime="detached",
            num_cpus=0, max_restarts=-1, max_task_retries=0,
        ).remote()  # fmt: skip

    def drop(self) -> None:
        """Look the actor up again with the next lease."""
        connecting = self._connecting
        if connecting is None or connecting.done():
            self._actor = self._connecting = None

    async def aclose(self) -> None:
        self.drop()
