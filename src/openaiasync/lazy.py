"""Names of a package that are imported when they are first asked for (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["LazyModule", "lazy_names"]


class LazyModule:
    """Stands for a module that is imported when one of its names is asked for: for modules that need each other."""

    __slots__ = ("_name", "_package")

    def __init__(self, name: str, package: str | None) -> None:
        self._name = name
        self._package = package

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name, self._package), name)


def lazy_names(package: str, table: Mapping[str, str]) -> Callable[[str], Any]:
    """A module `__getattr__` for `package` (or a plain module): `table` maps names to the modules that hold them."""

    def __getattr__(name: str) -> Any:
        if name not in table:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        here = sys.modules[package]
        value = getattr(importlib.import_module(table[name], here.__package__), name)
        setattr(here, name, value)
        return value

    return __getattr__
