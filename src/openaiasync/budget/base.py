"""The protocol of budgets, the name in their URLs, and the budget within a process."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Protocol
from urllib.parse import parse_qs, urlsplit

from ..core.policy.shared_quota import Grant, LeaseRequest, Quota
from ..errors import ConfigurationError, OpenAIError, Side

__all__ = ["Budget", "LocalBudget", "SharedLimitsError", "name_in"]


class SharedLimitsError(OpenAIError):
    """The limits that processes share cannot be reached; nothing was sent. See ``Limits(shared=…)``."""

    side: Side = "network"
    retryable: bool = True


class Budget(Protocol):
    """The connection of a worker to a quota."""

    patience: float
    """Seconds within which the first lease must be answered."""

    async def lease(self, request: LeaseRequest) -> Grant:
        """Pass `request` to the quota and return the grant.

        Raises `SharedLimitsError` if the budget cannot be reached now, `ConfigurationError` for errors that another
        attempt does not fix. May be cancelled.
        """
        ...

    def drop(self) -> None:
        """Close the connection at once; the next lease opens one."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...


class LocalBudget:
    """A budget within the process: ``local:NAME``. All clients and event loops that name it share it."""

    patience: float = 5.0
    _known: ClassVar[dict[str, Quota]] = {}

    def __init__(self, url: str) -> None:
        self._quota = self._known.setdefault(url.partition(":")[2], Quota())

    async def lease(self, request: LeaseRequest) -> Grant:
        return self._quota.lease(asyncio.get_running_loop().time(), request)

    def drop(self) -> None:
        """Do nothing: there is no connection."""

    async def aclose(self) -> None:
        """Do nothing: there is no connection."""


def name_in(url: str) -> tuple[str, str]:
    """Return the URL without its ``name``, and the name. Raises `ConfigurationError` without one."""
    parts = urlsplit(url)
    names = parse_qs(parts.query).get("name", [])
    if len(names) != 1 or not names[0]:
        raise ConfigurationError("shared limits need a name, the same in all processes: redis://HOST/0?name=NAME")
    rest = "&".join(one for one in parts.query.split("&") if one and not one.startswith("name="))
    return parts._replace(query=rest).geturl(), names[0]
