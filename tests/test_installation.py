"""Advice to install something names the place that this package came from, so that it works."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from openaiasync.installation import install_command, requirement
from pages import PAGES, REPOSITORY, SHELLS, blocks_of

PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = set(PROJECT["optional-dependencies"])


@pytest.fixture
def noted(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes an installer's note of where the package came from."""

    class Distribution:
        text: str | None = None

        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return self.text

    monkeypatch.setattr(metadata, "distribution", lambda name: Distribution)
    monkeypatch.setattr(Distribution, "read_text", classmethod(Distribution.read_text))

    def note(value: object) -> None:
        Distribution.text = value if isinstance(value, str) else json.dumps(value)

    return note


def test_from_a_folder(noted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone is named by its path, by a dot where the reader stands in it; an editable one stays editable."""
    clone = tmp_path / "a clone"
    clone.mkdir()
    noted({"url": clone.as_uri(), "dir_info": {}})
    assert install_command("cli") == f"pip install '{clone}[cli]'"
    noted({"url": clone.as_uri(), "dir_info": {"editable": True}})
    assert install_command("cli") == f"pip install -e '{clone}[cli]'"
    monkeypatch.chdir(clone)
    assert install_command("cli") == "pip install -e '.[cli]'"
    assert requirement("cli") == ".[cli]"


def test_from_elsewhere(noted: Any) -> None:
    """A repository is named with its commit, a file by its address, an index by the name alone."""
    noted({"url": "https://example.com/o.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    assert requirement("otel") == "openaiasync[otel] @ git+https://example.com/o.git@abc"
    noted({"url": "file:///tmp/o-1.whl", "archive_info": {"hashes": {}}})
    assert install_command("otel") == "pip install 'openaiasync[otel] @ file:///tmp/o-1.whl'"
    for nothing in ({}, [], "{", "null"):
        noted(nothing)
        assert install_command("otel") == "pip install 'openaiasync[otel]'"


def test_advice_names_extras_that_exist() -> None:
    """Every extra that an error, a page or an example names is one, and advice has one source."""
    named: set[str] = set()
    for path in (REPOSITORY / "src" / "openaiasync").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r"(?:install_command|requirement)\(['\"](\w+)['\"]\)", text))
        assert path.name == "installation.py" or not re.search(r"pip install.*openaiasync", text), path
    assert named >= {"openai", "cli", "data", "otel", "prices", "realtime"}
    for page in [*PAGES, *(REPOSITORY / "examples").iterdir()]:
        text = page.read_text(encoding="utf-8")
        assert "openaiasync[" not in text, f"{page}: not on an index yet"
        named |= {one for found in re.findall(r"\.\[([\w,]+)\]", text) for one in found.split(",")}
    assert named <= EXTRAS


def test_pages_install_from_the_folder() -> None:
    """What a page installs of this package is the folder that the reader stands in, as the README says."""
    readme = PAGES[0].read_text(encoding="utf-8")
    assert readme.index("Python 3.11 or newer") < readme.index("python3 -m venv")
    assert PROJECT["requires-python"] == ">=3.11"
    for page in PAGES:
        for block in blocks_of(page.read_text(encoding="utf-8")):
            for line in block.text.splitlines() if block.language in SHELLS else ():
                for command in line.removeprefix("$ ").split("#")[0].split("&&"):
                    words = shlex.split(command) if "pip install" in command else []
                    if words[1:2] == ["install"] and words[0].endswith("pip"):
                        wanted = [one for one in words[2:] if not one.startswith("-")]
                        assert all(one in ("pip", "test") or one.startswith(".") for one in wanted), (page, line)
