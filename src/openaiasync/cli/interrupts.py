"""Handling of SIGINT (Ctrl-C) and SIGTERM while a command runs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Generator

__all__ = ["handle_interrupts"]


@contextlib.contextmanager
def handle_interrupts(handler: Callable[[], None], *, once: bool = False) -> Generator[None]:
    """Call `handler` for SIGINT and SIGTERM within the block; with `once`, a second signal has its usual effect.

    Without effect on Windows and outside the main thread, where Ctrl-C raises `KeyboardInterrupt`.
    """
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM)

    def restore() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    def interrupted() -> None:
        if once:
            restore()
        handler()

    try:
        for number in numbers:
            loop.add_signal_handler(number, interrupted)
    except (NotImplementedError, RuntimeError):  # Windows, or not the main thread
        yield
        return
    try:
        yield
    finally:
        restore()
