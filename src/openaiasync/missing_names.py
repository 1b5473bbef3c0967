"""The error for a name that a package does not have: where it is instead. Imported when such an error is raised."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import sys

__all__ = ["missing_name"]

_PACKAGE = __name__.partition(".")[0]
_SYNCHRONOUS = frozenset({"AzureOpenAI", "OpenAI", "Stream", "SyncOpenAI"})
_SETTINGS = frozenset({"api_base", "api_key", "base_url", "organization", "timeout", "max_retries"})
_CALLS = {  # classes with which version 0 of the official package made calls
    "Audio": "client.speech_to_text(...) and client.text_to_speech(...) make such calls",
    "ChatCompletion": "client.chat(...) makes the call",
    "Completion": "client.completion(...) makes the call",
    "Embedding": "client.embedding(...) makes the call",
    "File": "client.files has the methods",
    "Image": "client.image_generate(...) makes the call",
    "Model": "client.models() makes the call",
    "Moderation": "client.moderations.create(...) makes the call",
}
_MODULES = ("server", "testing", "realtime", "errors", "auth", "azure", "bridge", "otel")


def missing_name(package: str, name: str) -> Exception:
    """Return the error for `name`, which `package` (this one, or one below `types`) does not have.

    It is an `ImportError` for ``from package import name``, since Python would replace the text of an `AttributeError`,
    and an `AttributeError` for any other access. The caller is the module's ``__getattr__`` or a function it calls.
    """
    text = f"module {package!r} has no attribute {name!r}{_advice(package, name)}"
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__") in (package, "openaiasync.lazy", __name__):
        frame = frame.f_back
    if frame is not None and frame.f_globals.get("__name__") == "importlib._bootstrap":
        return ImportError(text, name=package)
    return AttributeError(text, name=name, obj=sys.modules[package])


def _advice(package: str, name: str) -> str:
    if name.startswith("_"):
        return ""
    top = package == _PACKAGE
    if top and name in _SYNCHRONOUS:
        return ": it is asynchronous only; use AsyncOpenAI or Client, and await their methods"
    if top and name in _SETTINGS:
        return f": it is an option of a client, as in AsyncOpenAI({name}=...)"
    found = _home_of(name)
    calls = _CALLS.get(name, "") if top else ""
    if found or calls:
        where = f"the class is {found}.{name}" if found else ""
        return f": {'; '.join(filter(None, (where, calls)))}"
    near = difflib.get_close_matches(name, getattr(sys.modules[package], "__all__", ()), n=1, cutoff=0.75)
    return f"; did you mean {near[0]!r}?" if near else ""


def _home_of(name: str) -> str:
    """Return the public module that exports a class with this name, or ""."""
    types = importlib.import_module(f"{_PACKAGE}.types")
    below = [f"types.{module.name}" for module in pkgutil.iter_modules(types.__path__) if module.ispkg]
    below.sort(key=lambda module: module not in ("types.chat", "types.responses"))
    for module in ("types", *below, *_MODULES):
        home = f"{_PACKAGE}.{module}"
        try:
            exported = getattr(importlib.import_module(home), "__all__", ())
        except ImportError:  # an optional dependency is not installed
            continue
        if name in exported:
            return home
    resources = importlib.import_module(f"{_PACKAGE}.resources")
    return resources.__name__ if name.startswith("Async") and hasattr(resources, name) else ""
