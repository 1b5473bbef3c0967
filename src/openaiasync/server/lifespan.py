"""The ASGI lifespan: tells the application that the server starts and stops."""

from __future__ import annotations

import asyncio
from typing import Any

from .asgi import AsgiApp, Message

__all__ = ["Lifespan"]


class Lifespan:
    """Runs the application's lifespan in a task. An application that does not support the lifespan runs without it."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app
        self._messages: asyncio.Queue[Message] = asyncio.Queue()
        self._reply: asyncio.Future[str | None] | None = None  # the result is the error message, if any
        self._task: asyncio.Task[None] | None = None
        self.state: dict[str, Any] = {}
        """The application's state for this listener; every request's scope has a copy."""

    async def start(self) -> None:
        """Start the application. Raises `RuntimeError` with the application's message if it cannot start."""
        self._task = asyncio.create_task(self._run())
        problem = await self._tell("lifespan.startup")
        if problem is not None:
            await self._end()
            raise RuntimeError(f"the application did not start: {problem}")

    async def stop(self, timeout: float) -> None:
        """Stop the application, waiting at most `timeout` seconds."""
        if self._task is None:
            return
        try:
            async with asyncio.timeout(timeout):
                await self._tell("lifespan.shutdown")
        except TimeoutError:
            pass
        finally:
            await self._end()

    async def _tell(self, kind: str) -> str | None:
        if self._task is None or self._task.done():
            return None
        self._reply = asyncio.get_running_loop().create_future()
        self._messages.put_nowait({"type": kind})
        return await self._reply

    async def _end(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        scope: dict[str, Any] = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
        }
        try:
            await self._app(scope, self._messages.get, self._send)
        except Exception:
            pass  # by the specification, an application that raises here does not support the lifespan
        finally:
            self._answer(None)

    async def _send(self, message: Message) -> None:
        failed = str(message["type"]).endswith(".failed")
        self._answer(str(message.get("message") or "no reason given") if failed else None)

    def _answer(self, problem: str | None) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_result(problem)
