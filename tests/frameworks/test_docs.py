"""The examples of docs/frameworks.md, each where its framework is installed, against the built-in server."""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("openai")

from pages import REPOSITORY, Block, blocks_of, demo_server, run_page

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("default"), pytest.mark.timeout(200)]

PAGE = REPOSITORY / "docs" / "frameworks.md"


def runs_here(block: Block) -> bool:
    """Whether everything that the block imports is installed."""
    tree = ast.parse(block.text.replace("await ", ""))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return all(find_spec(name.partition(".")[0]) for name in names)


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bridge's own example runs, and that of the framework that is here, if one is, as the page says."""
    blocks = [one for one in blocks_of(PAGE.read_text(encoding="utf-8")) if one.language == "python"]
    assert len(blocks) == 6
    found = [block for block in blocks if runs_here(block)]
    if not find_spec("httpx2"):
        pytest.skip("the page is about the official client from version 3 on")
    assert "transport(" in found[0].text
    # One environment holds one framework; what comes along with another one counts too.
    several = [name for name in ("pydantic_ai", "agents", "langchain_openai", "instructor") if find_spec(name)]
    assert len(found) >= 1 + len(several)
    for block in found:
        block.needs = ""  # everything is here: it has to run to its end
    with demo_server(tmp_path) as api:
        for number, block in enumerate(found[1:] or [Block("python", "pass", 1)]):
            (folder := tmp_path / str(number)).mkdir()
            wrong = run_page(str(PAGE), [found[0], block], api, folder, warnings="default")
            assert not wrong, "\n\n".join(wrong)
