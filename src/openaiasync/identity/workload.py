"""Workload identity: a token of the program's platform is exchanged for a short-lived key (RFC 8693).

`WorkloadIdentityAuth` takes the place of a key. It is called before each attempt; one exchange serves all callers that
wait for it, and a new token is requested before the old one expires.
"""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Literal, NotRequired, TypedDict, cast

from ..core.codec.endpoint import nearest
from ..engine.config import Secret
from ..engine.log import logger
from ..engine.upstream import Connections
from ..errors import ClientClosedError, ConfigurationError, OpenAIError
from ..transport.base import Credentials
from .providers import SubjectTokenProvider
from .token_exchange import EXCHANGE_URL, SUBJECT_TYPES, X509_EXCHANGE_URL, exchange

__all__ = [
    "SubjectTokenWorkloadIdentity",
    "WorkloadIdentity",
    "WorkloadIdentityAuth",
    "X509WorkloadIdentity",
    "with_base",
    "x509_workload_identity",
]

BUFFER = 1200.0  # seconds before its expiry at which a token is renewed; at most half of its lifetime
PATIENCE = 60.0  # seconds for the provider's token and its exchange together
PAUSE = 30.0  # seconds until a failed exchange is retried while the old token is still valid
clock: Callable[[], float] = time.monotonic
_X509_BASES = {
    None: "https://mtls.api.openai.com/v1",
    "global": "https://mtls.api.openai.com/v1",
    "us": "https://mtls-us.api.openai.com/v1",
    "eu": "https://mtls-eu.api.openai.com/v1",
}


class WorkloadIdentity(TypedDict):
    """The identity of a workload: ids of its identity provider and service account at OpenAI, and its token provider.

    `refresh_buffer_seconds` (1,200): how long before its expiry a key is renewed; at most half of its lifetime.
    """

    identity_provider_id: str
    service_account_id: str
    provider: SubjectTokenProvider
    refresh_buffer_seconds: NotRequired[float]


SubjectTokenWorkloadIdentity = WorkloadIdentity


class X509WorkloadIdentity(TypedDict):
    """A workload that is identified by the client certificate of its connections (``http_other={"ssl": context}``)."""

    type: Literal["x509"]
    identity_provider_id: str
    service_account_id: str
    refresh_buffer_seconds: NotRequired[float]


def x509_workload_identity(
    *, identity_provider_id: str, service_account_id: str, refresh_buffer_seconds: float | None = None
) -> X509WorkloadIdentity:
    """Return an `X509WorkloadIdentity` with these values."""
    identity: X509WorkloadIdentity = {
        "type": "x509",
        "identity_provider_id": identity_provider_id,
        "service_account_id": service_account_id,
    }
    if refresh_buffer_seconds is not None:
        identity["refresh_buffer_seconds"] = refresh_buffer_seconds
    return identity


def with_base(options: Mapping[str, Any], default: str) -> dict[str, Any]:
    """Return a client's options with the API base of this identity: client certificates use separate hosts.

    `default` is the API base that the environment names, or ``""``; a region overrides it.

    Raises `ConfigurationError` for an unknown region, and for a base that is not https.
    """
    identity = options["workload_identity"]
    if not isinstance(identity, Mapping) or cast("Any", identity).get("type") != "x509":
        return dict(options)
    region = options.get("data_residency")
    base_url = options.get("base_url") or ("" if region else default)
    if not base_url:
        if region not in _X509_BASES:
            raise ConfigurationError("client certificates work in the regions global, us and eu only")
        base_url, region = _X509_BASES[region], None
    if not str(base_url).lower().startswith("https://"):
        raise ConfigurationError("a workload identified by its certificate needs an https API base")
    return {**options, "base_url": base_url, "data_residency": region}


class _RunningExchange:
    """One running exchange in one event loop, and the number of callers that wait for it."""

    def __init__(self, work: asyncio.Task[Secret]) -> None:
        self.loop: asyncio.AbstractEventLoop = work.get_loop()
        self.task: asyncio.Task[Secret] = work
        self.waiting: int = 0
        self.closed: bool = False
        work.add_done_callback(
            lambda task: task.cancelled() or task.exception()
        )  # every caller may have been cancelled by then

    def drop(self) -> None:
        """End the exchange because the client is being closed."""
        self.closed = True
        self.task.cancel()


class WorkloadIdentityAuth:
    """The key of a workload: a function that returns a valid one, for one client and its variants.

    Raises `ConfigurationError` for an invalid identity.
    """

    def __init__(
        self, *, workload_identity: WorkloadIdentity | X509WorkloadIdentity, token_exchange_url: str | None = None
    ) -> None:
        _check(workload_identity)
        self.workload_identity: WorkloadIdentity | X509WorkloadIdentity = workload_identity
        x509 = "provider" not in workload_identity
        self.token_exchange_url: str = token_exchange_url or (X509_EXCHANGE_URL if x509 else EXCHANGE_URL)
        self._shared: Connections | None = None
        self._token: Secret | None = None
        self._issued: deque[Secret] = deque(maxlen=8)
        self._good_until = self._fresh_until = self._try_again_at = 0.0
        self._flights: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _RunningExchange] = (
            weakref.WeakKeyDictionary()
        )

    def bind(self, shared: Connections) -> None:
        """Use these connections for token exchanges."""
        self._shared = shared

    async def __call__(self) -> str:
        return await self.get_token_async()

    async def get_token_async(self) -> str:
        """Return a valid token. Raises `SubjectTokenProviderError`, `OAuthError`, and the errors of any call."""
        now = clock()
        token = self._token
        if token is not None and now < self._fresh_until:
            return token.reveal()
        if token is not None and now < min(self._good_until, self._try_again_at):
            return token.reveal()
        try:
            token = await self._join()
        except OpenAIError as error:
            token = self._token
            now = clock()
            if token is None or now >= self._good_until or isinstance(error, ClientClosedError):
                raise
            self._try_again_at = now + PAUSE
            logger.warning(
                "a token could not be renewed, the old one is valid for another %.0f s: %s",
                self._good_until - now,
                error,
            )
        return token.reveal()

    def renew(self, credentials: Credentials) -> bool:
        """Return whether these refused credentials contain our token, which is then invalidated."""
        values = [value for _, value in credentials.fields()]
        for token in self._issued:
            if any(value.endswith(token.reveal()) for value in values):
                self.invalidate_token(token.reveal())
                return True
        return False

    def invalidate_token(self, token: str | None = None) -> None:
        """Forget the current token; with `token`, only if it is that one."""
        if self._token is not None and token in (None, self._token.reveal()):
            self._token = None

    async def _join(self) -> Secret:
        """Wait for the running exchange, or start one. It is cancelled once no caller waits for it."""
        shared = self._shared
        if shared is None:
            raise ConfigurationError("a workload identity belongs to a client: pass it as workload_identity=")
        loop = asyncio.get_running_loop()
        flight = self._flights.get(loop)
        if flight is None:
            if shared.closed:
                raise ClientClosedError("the client is closed; make a new one")
            flight = self._flights[loop] = _RunningExchange(
                loop.create_task(self._exchange(shared), name="openaiasync: token")
            )
            shared.admit(flight)
        flight.waiting += 1
        try:
            return await asyncio.shield(flight.task)
        except asyncio.CancelledError:
            if flight.closed:
                raise ClientClosedError("the client was closed while a token was exchanged") from None
            raise
        finally:
            flight.waiting -= 1
            if not flight.waiting or flight.task.done():
                flight.task.cancel()
                if self._flights.get(loop) is flight:
                    del self._flights[loop]

    async def _exchange(self, shared: Connections) -> Secret:
        try:
            async with asyncio.timeout(PATIENCE):
                token, seconds = await exchange(self.workload_identity, self.token_exchange_url, shared.aside())
        except TimeoutError:
            raise OpenAIError(f"no token within {PATIENCE:g} s: the token provider or the exchange hangs") from None
        now = clock()
        self._token = token
        self._issued.append(token)
        self._good_until = now + seconds
        buffer = self.workload_identity.get("refresh_buffer_seconds", BUFFER)
        self._fresh_until = self._good_until - min(buffer, seconds / 2)
        return token

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.workload_identity['service_account_id']}>"


_FIELDS = frozenset({"identity_provider_id", "service_account_id", "provider", "refresh_buffer_seconds", "type"})


def _check(given: object) -> None:
    """Raise `ConfigurationError` for an invalid identity."""
    if not isinstance(given, Mapping):
        raise ConfigurationError("workload_identity must be a dict: see openaiasync.auth.WorkloadIdentity")
    identity = cast("Mapping[str, Any]", given)
    for name in identity:
        if name not in _FIELDS:
            raise ConfigurationError(f"workload_identity has no {name!r}{nearest(name, _FIELDS)}")
    for name in ("identity_provider_id", "service_account_id"):
        if not isinstance(identity.get(name), str) or not identity[name]:
            raise ConfigurationError(f"workload_identity lacks {name}, a string")
    buffer = identity.get("refresh_buffer_seconds", BUFFER)
    if isinstance(buffer, bool) or not isinstance(buffer, (int, float)) or not 0 <= buffer < math.inf:
        raise ConfigurationError("refresh_buffer_seconds must be a finite number of seconds, at least 0")
    if identity.get("type") == "x509":
        if "provider" in identity:
            raise ConfigurationError("a workload identified by its certificate has no provider")
        return
    provider: Any = identity.get("provider")
    if not isinstance(provider, Mapping) or not callable(cast("Any", provider).get("get_token")):
        raise ConfigurationError("workload_identity lacks provider: a dict with token_type and get_token, a function")
    if cast("Any", provider).get("token_type") not in SUBJECT_TYPES:
        raise ConfigurationError(f"a provider's token_type must be one of {', '.join(SUBJECT_TYPES)}")
