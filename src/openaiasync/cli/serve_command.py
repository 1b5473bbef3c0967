"""`openaiasync serve`: the built-in server with its demo models, until a signal ends it."""

from __future__ import annotations

import asyncio
import signal

from .console import CommandError, Exit, note, write

__all__ = ["run_serve"]

_GRACE = 2.0  # seconds that running calls get to end after a signal
_LOOPBACK = ("127.", "::1", "localhost")


def run_serve(host: str, port: int, api_key: str | None, token_delay: float, strict: bool = False) -> int:
    """Serve until SIGINT (exit code 130) or SIGTERM (0)."""
    from ..demo import demo_app
    from ..server import serve
    from ..server.http import serve_until_signal

    app = demo_app(api_key or None, token_delay, strict=strict)
    server = serve(app, host, port, grace=_GRACE)
    if not host.startswith(_LOOPBACK) and not api_key:
        note(f"Everybody who can reach {host} can use this server; require a key with --api-key.")

    def started() -> None:
        write(f"{server.base_url}\n")
        note(f"Demo models: {', '.join(app.model_names())}. Ctrl-C stops the server.")

    try:
        received = asyncio.run(serve_until_signal(server, started))
    except OSError as error:
        where = f"{server.host}:{server.port}"
        raise CommandError(f"cannot listen on {where}: {error.strerror or error}", Exit.FAILED) from error
    return Exit.INTERRUPTED if received is signal.SIGINT else Exit.OK
