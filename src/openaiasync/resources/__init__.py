"""`openaiasync.resources`: the namespaces of methods under the official client's path.

``openaiasync.resources.chat.completions`` is the module `openaiasync.api.chat.completions`, and so is every other one
below it; the classes of the first level are attributes of this package, as ``AsyncChat``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import cached_property
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
        sys.modules[module.__name__] = importlib.import_module(_real(module.__name__))


def __getattr__(name: str) -> Any:
    for attribute, namespace in vars(Api).items():
        if isinstance(namespace, cached_property) and namespace.func.__annotations__["return"] == name:
            return getattr(importlib.import_module(f".{attribute}", api.__name__), name)
    return submodule(__name__, name)


# Before the finder of files, which would load the modules of a subpackage again, under their second name.
sys.meta_path.insert(0, _Aliases())
