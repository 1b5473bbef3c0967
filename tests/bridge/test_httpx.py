"""`openaiasync.bridge.httpx`: the HTTP library that the installed official client works with."""

from __future__ import annotations

from importlib import metadata
from types import SimpleNamespace
from typing import Any

import httpx2
import pytest

from openaiasync.bridge import httpx as library
from openaiasync.bridge.httpx import library_named

NEW = ["anyio>=3", "httpx2<3,>=2.7.0", 'httpx<1; extra == "legacy"']
OLD = ["anyio>=3", "httpx<1,>=0.23.0", 'httpx-aiohttp>=0.1; extra == "aiohttp"']


@pytest.mark.parametrize(("needs", "found"), [(NEW, "httpx2"), (OLD, "httpx"), ([], "httpx2"), (None, "httpx2")])
def test_what_the_official_client_requires(
    needs: list[str] | None, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requirements decide, without those of its extras; where it is not installed, what there is."""

    def requires(name: str) -> list[str]:
        assert name == "openai"
        if needs is None:
            raise metadata.PackageNotFoundError
        return needs

    def load(name: str) -> Any:
        return name

    monkeypatch.setattr(metadata, "requires", requires)
    monkeypatch.setattr(library, "importlib", SimpleNamespace(import_module=load))
    assert library_named(None) == found


def test_by_name() -> None:
    """A name is taken as it is; another one is an error."""
    assert library_named("httpx2") is httpx2
    with pytest.raises(ValueError, match="requests"):
        library_named("requests")


def test_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library is not installed, the error says what to install."""

    def load(name: str) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(library, "importlib", SimpleNamespace(import_module=load))
    with pytest.raises(ModuleNotFoundError, match=r"pip install .*\[openai\]"):
        library_named("httpx")
