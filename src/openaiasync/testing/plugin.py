"""The pytest plugin ``openaiasync``: the fixture `openai_server`. Nothing else is imported until a test requests it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from .server import FakeServer


@pytest.fixture
def openai_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A server with scripted answers; OPENAI_BASE_URL and OPENAI_API_KEY direct every client of this test to it.

    The test fails if the server received an unexpected request.
    """
    from .server import FakeServer

    with FakeServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        for name in ("NO_PROXY", "no_proxy"):  # the environment's proxy would be used for 127.0.0.1, too
            monkeypatch.setenv(name, ",".join(filter(None, [os.environ.get(name), "127.0.0.1"])))
        yield server


resolve_annotations(__name__)
