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
from .tiny import write_gguf, write_huggingface

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


def start_llamacpp(gguf: Path, *, embeddings: bool, context: int = CONTEXT) -> Iterator[Running]:
    if importlib.util.find_spec("xllamacpp") is None:
        missing("the wheel `xllamacpp` (llama.cpp's server) is not installed")

    def command(port: int) -> list[str]:
        options: llamacpp.Options = {
            "model": str(gguf),
            "port": port,
            "key": KEY,
            # Of inputs in one batch llama.cpp pools only the last part of the longer ones: one at a time.
            "slots": 1 if embeddings else SLOTS,
            "context": context,
            "embeddings": embeddings,
        }
        return [sys.executable, llamacpp.__file__, json.dumps(options)]

    log = gguf.with_name(f"llamacpp-{'embeddings' if embeddings else 'text'}-{context}.log")
    with serving(command, log) as running:
        yield running


@pytest.fixture(scope="session")
def llama(gguf: Path) -> Iterator[Running]:
    """llama.cpp with the scripted model: chat and completions, 2 slots."""
    yield from start_llamacpp(gguf, embeddings=False)


@pytest.fixture(scope="session")
def llama_embeddings(gguf: Path) -> Iterator[Running]:
    """llama.cpp with the scripted model for embeddings."""
    yield from start_llamacpp(gguf, embeddings=True)


@pytest.fixture(scope="session")
def transformers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """`transformers serve` with the scripted model, which it calls "./tiny"."""
    home = os.environ.get("OPENAIASYNC_TRANSFORMERS_VENV")
    if not home:
        missing("OPENAIASYNC_TRANSFORMERS_VENV names no environment; scripts/check --full makes one")
    folder = tmp_path_factory.mktemp("transformers")
    write_huggingface(folder / "tiny")
    (folder / "home" / "hub").mkdir(parents=True)  # without a cache to list, its /v1/models fails

    def command(port: int) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--log-level", "warning"]
        # A relative name, so that no path of this machine goes over the wire.
        return [str(Path(home) / "bin" / "transformers"), "serve", *where, "./tiny"]

    environment = {"HF_HOME": str(folder / "home")}
    with serving(command, folder / "log", wait=180, environment=environment, folder=folder) as running:
        yield running
