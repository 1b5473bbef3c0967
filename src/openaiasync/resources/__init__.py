"""`openaiasync.resources`: the namespaces of methods under the official client's path.

``openaiasync.resources.chat.completions`` is the module `openaiasync.api.chat.completions`, and so is every other one
below it; the classes of a namespace are attributes of the package above it: `AsyncChat` of this one, `AsyncCompletions`
of ``openaiasync.resources.chat``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import cached_property, partial
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_loader
from types import ModuleType
from typing import Any

from .. import api
from ..api.root import Api
from ..lazy import submodule

__all__: list[str] = []  # the classes are found by name

_PREFIX = __name__ + "."


def _real(name: str) -> str:
    return f"{api.__name__}.{name.removeprefix(_PREFIX)}"


class _Aliases(MetaPathFinder, Loader):
    """Finds each module below this package as the one of the same name in `api`, so that there is one copy of it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.startswith(_PREFIX) and find_spec(_real(fullname)) is not None:
            return spec_from_loader(fullname, self, is_package=True)
        return None

    def exec_module(self, module: ModuleType) -> None:
        real = importlib.import_module(_real(module.__name__))
        if hasattr(real, "__path__"):
            vars(real).setdefault("__getattr__", partial(_below, module.__name__))
        sys.modules[module.__name__] = real


def _below(package: str, name: str) -> Any:
    """Return the class of a namespace below this one, or a submodule, which is imported at first access."""
    real = api.__name__ if package == __name__ else _real(package)
    own = [Api] if package == __name__ else [kind for kind in vars(sys.modules[real]).values() if _is_of(kind, real)]
    for attribute, namespace in [item for kind in own for item in vars(kind).items()]:
        if isinstance(namespace, cached_property) and namespace.func.__annotations__["return"] == name:
            return getattr(importlib.import_module(f".{attribute}", real), name)
    return submodule(package, name)


def _is_of(kind: object, module: str) -> bool:
    return isinstance(kind, type) and kind.__module__ == module


def __getattr__(name: str) -> Any:
    return _below(__name__, name)


# Before the finder of files, which would load the modules of a subpackage again, under their second name.
sys.meta_path.insert(0, _Aliases())
