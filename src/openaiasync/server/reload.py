"""Reload an application while it is served: import it anew when its files change, and swap it on the open socket."""

from __future__ import annotations

import asyncio
import importlib
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from .http import HTTPServer

__all__ = ["ModuleReloader", "reload_on_change"]

_POLL: Final = 0.25  # seconds


class ModuleReloader:
    """Imports the modules of an application anew: those whose files are below one of some folders.

    Other modules (installed packages, models that they have loaded) stay as they are, so that a reload is quick. If the
    new code cannot be imported the old modules stay in use.
    """

    def __init__(self, load: Callable[[], Any], *folders: Path) -> None:
        self._load = load
        self._folders = [folder.resolve() for folder in folders]
        # Bytecode is recognized by whole seconds and size: a second change within a second would go unnoticed.
        sys.dont_write_bytecode = True

    def reload(self) -> Any:
        """Return the newly imported application. Raises what importing it raises."""
        importlib.invalidate_caches()
        old = self._own_modules()
        for name in old:
            del sys.modules[name]
        try:
            return self._load()
        except BaseException:
            for name in self._own_modules():
                del sys.modules[name]
            sys.modules.update(old)
            raise

    def _own_modules(self) -> dict[str, Any]:
        return {name: module for name, module in list(sys.modules.items()) if self._file_of(module) is not None}

    def _file_of(self, module: Any) -> Path | None:
        """Return the file of a module if it is part of the application."""
        name = getattr(module, "__file__", None)
        if not name or getattr(module, "__name__", "") == "__main__":
            return None
        path = Path(name).resolve()
        own = any(folder in path.parents for folder in self._folders)
        # A virtual environment in the folder of a project is not part of the application.
        return path if own and not {"site-packages", "dist-packages"} & set(path.parts) else None

    def signature(self) -> dict[Path, tuple[int, int]]:
        """Return time and size of each source file of the application, and of those beside them."""
        files = {path for module in self._own_modules().values() if (path := self._file_of(module)) is not None}
        files |= {file for folder in {path.parent for path in files} for file in folder.glob("*.py")}
        for folder in self._folders:
            files |= set(folder.glob("*.py"))
        found: dict[Path, tuple[int, int]] = {}
        for file in files:
            try:
                status = file.stat()
            except OSError:
                continue  # removed, as editors do that write a new file in its place
            found[file] = status.st_mtime_ns, status.st_size
        return found


async def reload_on_change(
    server: HTTPServer, reloader: ModuleReloader, tell: Callable[[str], None], poll: float = _POLL
) -> None:
    """Watch the application's files, and swap the new application in whenever they have changed. Runs until cancelled.

    The traceback of code that cannot be imported, or of an application that does not start, goes to `tell`; the old
    application is served until the next change.
    """
    seen = reloader.signature()
    while True:
        await asyncio.sleep(poll)
        now = reloader.signature()
        if now == seen:
            continue
        while True:  # until all files are written
            await asyncio.sleep(poll / 5)
            settled = reloader.signature()
            if settled == now:
                break
            now = settled
        try:
            # In a thread, so that streams go on meanwhile.
            await server.reload(await asyncio.to_thread(reloader.reload))
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # SystemExit too: the code of a module may do anything
            text = "".join(traceback.format_exception(error, limit=-8))
            tell(f"{text}The application was not reloaded; the old one is served until the next change.")
        else:
            tell("Reloaded the application.")
        seen = {**reloader.signature(), **now}


resolve_annotations(__name__)
