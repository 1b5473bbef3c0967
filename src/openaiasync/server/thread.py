"""The built-in server in a thread, for tests and tools that are synchronous."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

from .http import HTTPServer

__all__ = ["ServerThread", "start_in_thread"]


class ServerThread:
    """A server on an event loop in another thread. A context manager; `close` stops it."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._problem: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._main, name="openaiasync-server", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._problem is not None:
            self._thread.join()
            raise self._problem

    @property
    def base_url(self) -> str:
        """The base URL for clients, as `HTTPServer.base_url`."""
        return self.server.base_url

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self.server.port

    def close(self) -> None:
        """Stop the server within its grace period and end the thread. Idempotent."""
        if self._thread.is_alive() and self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._problem = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        async with self.server:
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def start_in_thread(server: HTTPServer) -> ServerThread:
    """Start a server made by `serve(...)` in a thread, and return once it listens. Raises its errors of starting."""
    return ServerThread(server)
