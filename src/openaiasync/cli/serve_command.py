"""`openaiasync serve`: the built-in server with its demo models, until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from .console import CommandError, Exit, note, write

if TYPE_CHECKING:
    from ..server import HTTPServer

__all__ = ["run_serve"]

_GRACE = 2.0  # seconds that running calls get to end after a signal
_LOOPBACK = ("127.", "::1", "localhost")


def run_serve(host: str, port: int, api_key: str | None, token_delay: float) -> int:
    """Serve until SIGINT (exit code 130) or SIGTERM (0)."""
    from ..server import demo_app, serve

    app = demo_app(api_key or None, token_delay)
    server = serve(app, host, port, grace=_GRACE)
    if not host.startswith(_LOOPBACK) and not api_key:
        note(f"Everybody who can reach {host} can use this server; require a key with --api-key.")
    return asyncio.run(_until_signal(server, list(app.models)))


async def _until_signal(server: HTTPServer, models: list[str]) -> int:
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Exit] = loop.create_future()

    def end(code: Exit) -> None:
        if ended.done():
            server.hurry()
        else:
            ended.set_result(code)

    try:
        loop.add_signal_handler(signal.SIGINT, end, Exit.INTERRUPTED)
        loop.add_signal_handler(signal.SIGTERM, end, Exit.OK)
    except NotImplementedError:
        pass  # Windows: Ctrl-C cancels this task instead
    try:
        await server.start()
    except OSError as error:
        where = f"{server.host}:{server.port}"
        raise CommandError(f"cannot listen on {where}: {error.strerror or error}", Exit.FAILED) from error
    try:
        write(f"{server.base_url}\n")
        note(f"Demo models: {', '.join(models)}. Ctrl-C stops the server.")
        return await ended
    finally:
        await server.close()
