"""A budget in Redis: a `Quota` as one Lua script (``lease.lua``), so that a lease is one round trip.

Keys: ``openaiasync:{NAME}`` (limits and virtual times), ``…:workers`` (a hash: what each worker requests) and
``…:seen`` (sorted: when each leased last). All expire ten minutes after the last lease. The braces keep them in one
slot of a cluster. The clock is that of Redis. The URL's password is never shown.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from ..core.policy.shared_quota import Grant, LeaseRequest
from ..errors import ConfigurationError, OpenAIError
from ..installation import install_command
from .base import SharedLimitsError, name_in

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisBudget", "lease_script"]

TIMEOUT = 2.0  # seconds for a connection or an answer

# Errors that another attempt does not fix, by the start of their class in the package `redis` or a part of their text,
# and what to do about them.
_PERMANENT = {
    "NoPermission": "its user may not use them: permit +@scripting +@string +@hash +@sortedset +time +del +pexpire "
    "~openaiasync:*",
    "can't run this command": "its user may not use them: permit +@string +@hash +@sortedset +time +del +pexpire",
    "can't access at least one of the keys": "its user may not use them: permit ~openaiasync:*",
    "Authentication": "it does not accept the user or the password of redis://USER:PASSWORD@HOST/0?name=NAME",
    "WRONGTYPE": "a key of this name holds other data: use another name",
    "ReadOnly": "it is a read-only replica: name the primary server",
    "non deterministic": "it is older than Redis 5",
    "unknown command": "it is older than Redis 5, or has no scripts",
    "Moved": "it is one node of a cluster, and the key is on another one",
    "DB index": "it has no database of this number",
    "invalid DB": "it has no database of this number",
}

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Grant, strict=False).decode


@cache
def lease_script() -> tuple[bytes, str]:
    """Return the script and its SHA-1, the name under which Redis keeps it."""
    text = files("openaiasync.budget").joinpath("lease.lua").read_bytes()
    return text, hashlib.sha1(text, usedforsecurity=False).hexdigest()


class RedisBudget:
    """The budget of a ``redis://``, ``rediss://`` or ``unix://`` URL with a ``name``.

    Its other parameters are those of the package ``redis``, such as ``db`` and ``ssl_ca_certs``.
    """

    patience: float = 5.0

    def __init__(self, url: str) -> None:
        try:
            import redis.asyncio
            import redis.exceptions
        except ImportError:
            raise ConfigurationError(f"limits in Redis need the package redis: {install_command('redis')}") from None
        place, name = name_in(url)
        self._errors: Any = redis.exceptions
        try:
            made: Any = redis.asyncio.Redis  # `from_url` has keywords without types
            # No retries by the package: a lease that was counted twice would give back twice.
            self._redis: Redis = made.from_url(
                place, socket_timeout=TIMEOUT, socket_connect_timeout=TIMEOUT, retry=None
            )
            connections: Any = self._redis.connection_pool
            connections.make_connection()
        except Exception as error:  # its text may hold the password
            raise ConfigurationError(f"the URL of the shared limits cannot be used ({type(error).__name__})") from None
        known: dict[str, Any] = self._redis.connection_pool.connection_kwargs
        self._secrets = [str(known[one]) for one in ("password", "username") if known.get(one)]
        self._place = str(known.get("path") or f"{known.get('host', 'localhost')}:{known.get('port', 6379)}")
        self._keys = [f"openaiasync:{{{name}}}{end}" for end in ("", ":workers", ":seen")]

    async def lease(self, request: LeaseRequest) -> Grant:
        errors, (script, digest) = self._errors, lease_script()
        connection: Any = self._redis  # whose methods have partly unknown types
        run = connection.execute_command
        words = (3, *self._keys, _encode(request))
        try:
            try:
                return _decode(await run("EVALSHA", digest, *words))
            except errors.NoScriptError:
                return _decode(await run("EVAL", script, *words))
        except (errors.RedisError, OSError) as error:
            raise self._failure(error) from None
        except (msgspec.DecodeError, TypeError):
            raise ConfigurationError(f"{self._place} does not answer like Redis") from None

    def _failure(self, error: Exception) -> OpenAIError:
        text, kind = str(error), type(error).__name__
        for secret in self._secrets:
            text = text.replace(secret, "…")
        for sign, reason in _PERMANENT.items():
            if sign in text or kind.startswith(sign):
                return ConfigurationError(f"Redis at {self._place} cannot keep the shared limits: {reason}")
        return SharedLimitsError(f"the shared limits in Redis at {self._place} cannot be reached: {text or kind}")

    def drop(self) -> None:
        """Close the connections at once."""
        pool: Any = self._redis.connection_pool
        for one in [*pool._available_connections, *pool._in_use_connections]:
            if one._writer is not None:
                one._writer.transport.abort()
                one._writer = one._reader = None  # otherwise its finalizer warns
        pool.reset()

    async def aclose(self) -> None:
        await self._redis.aclose()
