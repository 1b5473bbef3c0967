"""Find the HTTP library of the installed official client: httpx2 since its version 3, httpx before."""

from __future__ import annotations

import importlib
from importlib import metadata, util
from typing import Any, Literal

from ..installation import install_command

__all__ = ["LibraryName", "library_named"]

LibraryName = Literal["httpx2", "httpx"]


def library_named(name: str | None) -> Any:
    """Return the module of that name; for `None` the one that the installed ``openai`` requires, or an installed one.

    Raises `ValueError` for another name and `ModuleNotFoundError` if it is not installed.
    """
    if name is None:
        name = _required() or ("httpx2" if util.find_spec("httpx2") or not util.find_spec("httpx") else "httpx")
    elif name not in ("httpx2", "httpx"):
        raise ValueError(f"library is 'httpx2' or 'httpx', not {name!r}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"the bridge to the official client needs {name}: {install_command('openai')}", name=name
        ) from None


def _required() -> str | None:
    """Return the HTTP library among the requirements of ``openai``; requirements of its extras do not count."""
    try:
        needs = metadata.requires("openai") or []
    except metadata.PackageNotFoundError:
        return None
    plain = [need for need in needs if ";" not in need and need.startswith("httpx")]
    if not plain:
        return None
    return "httpx2" if any(need.startswith("httpx2") for need in plain) else "httpx"
