"""`openaiasync serve`: the built-in server with an application or the demo models, until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import importlib
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ..lazy import resolve_annotations
from .console import CommandError, Exit, note, note_lines, write

if TYPE_CHECKING:
    from ..server.asgi import AsgiApp
    from ..server.reload import ModuleReloader
    from .front_command import FrontOptions

__all__ = ["run_application", "run_front", "run_serve"]

_LOOPBACK = ("127.", "::1", "localhost")


def run_serve(
    host: str, port: int, api_key: str | None, token_delay: float, strict: bool, grace: float, ui: bool
) -> int:
    """Serve the demo models until SIGINT (exit code 130) or SIGTERM (0)."""
    from ..demo import demo_app

    app = demo_app(api_key or None, token_delay, strict=strict)
    if not host.startswith(_LOOPBACK) and not api_key:
        note(f"Anyone who can reach {host} can use this server; require a key with --api-key.")
    return _serve(app, host, port, grace, ui, f"Demo models: {', '.join(app.model_names())}. Ctrl-C stops the server.")


def run_application(name: str, host: str, port: int, grace: float, ui: bool, *, reload: bool = False) -> int:
    """Serve an ASGI application, named as MODULE:NAME and imported from the current folder too; otherwise as above.

    With `reload` it is imported anew when a file of it changes, without closing the socket.
    """
    reloader: ModuleReloader | None = None
    if reload:
        from ..server import ChatPage
        from ..server.reload import ModuleReloader

        def load() -> AsgiApp:
            return ChatPage(_import(name)) if ui else _import(name)

        reloader = ModuleReloader(load, Path())
    return _serve(_import(name), host, port, grace, ui, f"Serving {name}. Ctrl-C stops the server.", reloader)


def run_front(
    options: FrontOptions, application: str | None, api_key: str | None, host: str, port: int, grace: float, ui: bool
) -> int:
    """Serve as a front for other servers; otherwise as above."""
    from .front_command import front_of

    if application is not None:
        raise CommandError("an application and --upstream exclude each other", Exit.USAGE)
    if api_key:
        raise CommandError("--api-key is the demo's; the keys of a front's clients are given by --key", Exit.USAGE)
    front = front_of(options, host)
    return _serve(front, host, port, grace, ui, f"A front for {', '.join(front.upstreams())}. Ctrl-C stops the server.")


def _import(name: str) -> AsgiApp:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise CommandError(f"an application is named as MODULE:NAME, not {name!r}", Exit.USAGE)
    if sys.path[:1] != [""]:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
        for step in attribute.split("."):
            found = getattr(found, step)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and misses another one
        raise CommandError(f"there is no module {error.name!r}", Exit.FAILED) from error
    except AttributeError as error:
        raise CommandError(f"{name}: {error}", Exit.FAILED) from error
    if not callable(found):
        raise CommandError(f"{name} is a {type(found).__name__}, not an ASGI application", Exit.FAILED)
    return cast("Callable[..., Any]", found)


def _serve(
    app: AsgiApp, host: str, port: int, grace: float, ui: bool, hint: str, reloader: ModuleReloader | None = None
) -> int:
    from ..server import ChatPage, Server, serve
    from ..server.http import serve_until_signal
    from ..server.reload import reload_on_change

    listen = app.listener if isinstance(app, Server) else partial(serve, app)
    server = listen(host, port, grace=grace)
    if ui:
        server.app = ChatPage(server.app)

    def started() -> None:
        if reloader is None:
            _spare_collections()
        write(f"{server.base_url}\n")
        if ui:
            note(f"The page: {server.base_url.removesuffix('v1')}")
        note(hint)

    try:
        watch = None if reloader is None else partial(reload_on_change, server, reloader, note_lines)
        received = asyncio.run(serve_until_signal(server, started, watch))
    except OSError as error:
        where = f"{server.host}:{server.port}"
        raise CommandError(f"cannot listen on {where}: {error.strerror or error}", Exit.FAILED) from error
    except RuntimeError as error:
        raise CommandError(str(error), Exit.FAILED) from error
    return Exit.INTERRUPTED if received is signal.SIGINT else Exit.OK


def _spare_collections() -> None:
    """Make the garbage collector do less in a process that only serves: it took 5 % of a busy front's time.

    What was imported stays, so it is not looked at again. Requests in flight have up to some thousand objects, none of
    which are in cycles, and the default threshold of 700 is passed again and again by their coming and going.
    """
    gc.freeze()
    gc.set_threshold(10_000)


resolve_annotations(__name__)
