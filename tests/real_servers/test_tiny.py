"""The scripted model: small, always the same, and said by a real server word for word (without our client)."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from .conftest import KEY
from .processes import Running
from .tiny import TEXTS, weights, write_gguf, write_huggingface


def test_the_files_are_small_and_always_the_same(tmp_path: Path) -> None:
    """Two runs give the same bytes, well under a megabyte."""
    for name in ("one", "two"):
        write_gguf(tmp_path / f"{name}.gguf")
        write_huggingface(tmp_path / name)
    data = (tmp_path / "one.gguf").read_bytes()
    assert data.startswith(b"GGUF")
    assert len(data) < 1_000_000
    assert data == (tmp_path / "two.gguf").read_bytes()
    first, second = ({path.name: path.read_bytes() for path in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert first == second
    assert "model.safetensors" in first


def test_a_token_of_two_scripts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that would run over into another is an error, not a riddle."""
    monkeypatch.setitem(weights.SCRIPTS, "nothing", [" pocket"])
    with pytest.raises(ValueError, match="two scripts"):
        weights.Axes(weights.Vocabulary())


@pytest.mark.parametrize("cue", ["hello", "json", "utf8", "controls", "nothing"])
def test_llamacpp_says_what_the_script_says(cue: str, llama: Running) -> None:
    """llama.cpp loads the model and answers a cue with its text, exactly."""
    body = {"messages": [{"role": "user", "content": f"#{cue}"}]}
    request = urllib.request.Request(
        f"{llama.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    assert answer["choices"][0]["message"]["content"] == TEXTS[cue]
    assert answer["choices"][0]["finish_reason"] == "stop"
