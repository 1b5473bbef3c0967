"""Real servers, started once a session when the first test asks for them."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from . import llamacpp
from .processes import Running, serving
from .tiny import write_gguf

KEY = "key-of-the-tests"
SLOTS = 2
CONTEXT = 16384  # tokens of one slot: an endless answer takes seconds, so that a cancelled one shows


def missing(reason: str) -> NoReturn:
    """Skip, with the reason in the summary; in CI fail, because there a real server must be there."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{reason}, and CI must not skip it")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_gguf(path)
    return path


def start_llamacpp(gguf: Path, *, embeddings: bool) -> Iterator[Running]:
    if importlib.util.find_spec("xllamacpp") is None:
        missing("the wheel `xllamacpp` (llama.cpp's server) is not installed")

    def command(port: int) -> list[str]:
        options: llamacpp.Options = {
            "model": str(gguf),
            "port": port,
            "key": KEY,
            "slots": SLOTS,
            "context": CONTEXT,
            "embeddings": embeddings,
        }
        return [sys.executable, llamacpp.__file__, json.dumps(options)]

    with serving(command, gguf.with_name(f"llamacpp-{'embeddings' if embeddings else 'text'}.log")) as running:
        yield running


@pytest.fixture(scope="session")
def llama(gguf: Path) -> Iterator[Running]:
    """llama.cpp with the scripted model: chat and completions, 2 slots."""
    yield from start_llamacpp(gguf, embeddings=False)


@pytest.fixture(scope="session")
def llama_embeddings(gguf: Path) -> Iterator[Running]:
    """llama.cpp with the scripted model for embeddings."""
    yield from start_llamacpp(gguf, embeddings=True)
