"""Names that are imported when they are first used: of a package (PEP 562), and of a module's annotations."""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

__all__ = ["LazyModule", "json", "lazy_names", "resolve_annotations", "submodule"]


class LazyModule:
    """A placeholder for a module that is imported at first access to a name, for modules that need each other."""

    __slots__ = ("_name", "_package")

    def __init__(self, name: str, package: str | None) -> None:
        self._name = name
        self._package = package

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module(self._name, self._package), name)


if TYPE_CHECKING:
    import json
else:
    # Needed for errors and raw answers alone, and 3 % of what an import of the package would cost.
    json = LazyModule("json", None)


def lazy_names(package: str, table: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module `__getattr__` for `package` (or a plain module).

    `table` maps names to the modules that hold them. Other names are those of submodules, so that
    ``openaiasync.types.chat`` works without an import of it.
    """

    def __getattr__(name: str) -> Any:
        if name not in table:
            return submodule(package, name)
        here = sys.modules[package]
        value = getattr(importlib.import_module(table[name], here.__package__), name)
        setattr(here, name, value)
        return value

    return __getattr__


def submodule(package: str, name: str) -> Any:
    """Import and return a submodule at its first access as an attribute.

    Raises an error that says where the name is if it does not exist: see `missing_name`.
    """
    if not name.startswith("__") and hasattr(sys.modules[package], "__path__"):
        try:
            return importlib.import_module(f".{name}", package)
        except ModuleNotFoundError as error:
            if error.name != f"{package}.{name}":
                raise
    if package != "openaiasync" and not package.startswith("openaiasync.types"):
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    from .missing_names import missing_name

    raise missing_name(package, name)


def resolve_annotations(module: str) -> None:
    """Let `typing.get_type_hints` find the names that a module imports under ``TYPE_CHECKING`` only.

    Call it as the last statement of the module. Importing these names at once would load most of the package with the
    client; they are imported when an annotation that needs one is evaluated.

    Annotations are evaluated with `eval` in the globals of their module, and names that are missing there are looked
    up in its ``__builtins__``, which may be any dict. Functions take their builtins when they are defined, so that
    those of the module keep the plain ones. The annotations of a class are evaluated with the attributes of the class
    as globals.
    """
    namespace = vars(sys.modules[module])
    names = _AnnotationNames(module)
    for kind in list(namespace.values()):
        if not isinstance(kind, type) or kind.__module__ != module or "__annotations__" not in vars(kind):
            continue
        if not getattr(kind, "_is_protocol", False):  # each attribute of a protocol is a member that it asks for
            setattr(kind, "__builtins__", names)  # noqa: B010  (classes declare no such attribute)
    namespace["__builtins__"] = names


class _AnnotationNames(dict[str, Any]):
    """The builtins, and behind them the names that a module defines for type checkers only."""

    def __init__(self, module: str) -> None:
        super().__init__(vars(builtins))
        self._module = module
        self._loaded = False

    def __missing__(self, name: str) -> Any:
        if not self._loaded:
            self._loaded = True
            for key, value in _type_checking_names(self._module).items():
                self.setdefault(key, value)
            if name in self:
                return self[name]
        raise KeyError(name)


def _source_of(module: str) -> str | None:
    """Return the source of a module, or None if it is not installed.

    Not every loader hands it out: that of pytest, which rewrites the modules of distributions with a plugin, does not.
    """
    from importlib.util import decode_source

    here = sys.modules[module]
    get_source = getattr(here.__loader__, "get_source", None)
    if get_source is not None:
        source: str | None = get_source(module)
        return source
    try:
        with open(here.__file__ or "", "rb") as file:
            return decode_source(file.read())
    except (OSError, SyntaxError, UnicodeDecodeError):  # no such file, or bytecode alone
        return None


def _type_checking_names(module: str) -> dict[str, Any]:
    """Run the ``if TYPE_CHECKING:`` blocks of a module apart from it; return the names they define.

    A statement that fails (an optional dependency that is not installed) leaves its names undefined. So does a module
    whose source is not installed.
    """
    import ast

    source = _source_of(module)
    if source is None:
        return {}
    here = sys.modules[module]
    plain = {**vars(here), "__builtins__": builtins}
    found = dict(plain)
    for node in ast.parse(source).body:
        if not (isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            continue
        for statement in node.body:
            code = compile(ast.Module([statement], []), f"<annotations of {module}>", "exec", dont_inherit=True)
            try:
                exec(code, found)  # the module's own source
            except Exception:  # an import or an expression that works for type checkers only
                continue
    return {name: value for name, value in found.items() if name not in plain}
