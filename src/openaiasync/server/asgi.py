"""The types of the ASGI 3 interface, through which the built-in server runs any application."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, MutableMapping
from typing import Any, Final, TypeAlias, cast

__all__ = ["READY", "AsgiApp", "Message", "Receive", "Scope", "Send"]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


_nothing: Final = cast("Generator[Any, None, None]", iter(()))  # a generator would cost five times as much to await


class _Ready:
    """An awaitable that is done."""

    def __await__(self) -> Generator[Any, None, None]:
        return _nothing


READY: Final = _Ready()
"""For functions that rarely have to wait: a coroutine that never does costs as much as they do."""
