"""The examples of docs/frameworks.md, each where its framework is installed, against the built-in server."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("openai")

from openaiasync.demo import demo_app
from openaiasync.server.http import serve
from openaiasync.server.thread import start_in_thread
from test_docs import RUNNER, blocks_of

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("default"), pytest.mark.timeout(200)]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "frameworks.md"


def runs_here(code: str) -> bool:
    """Whether everything that the block imports is installed."""
    tree = ast.parse(code)
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return all(find_spec(name.partition(".")[0]) for name in names)


def test_the_page() -> None:
    """The bridge's own example runs, and that of the framework that is here, if one is."""
    blocks = [block.text for block in blocks_of(PAGE.read_text(encoding="utf-8")) if block.language == "python"]
    assert len(blocks) == 6
    found = [block for block in blocks if runs_here(block)]
    if not find_spec("httpx2"):
        pytest.skip("the page is about the official client from version 3 on")
    assert "transport(" in found[0]
    # One environment holds one framework; what comes along with another one counts too.
    several = [name for name in ("pydantic_ai", "agents", "langchain_openai", "instructor") if find_spec(name)]
    assert len(found) >= 1 + len(several)
    with start_in_thread(serve(demo_app())) as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "sk-of-the-docs"}
        for block in found[1:] or [""]:
            code = "\0".join([found[0], block])
            done = subprocess.run(
                [sys.executable, "-c", RUNNER, str(PAGE)],
                input=code,
                capture_output=True,
                encoding="utf-8",
                timeout=60,
                check=False,
                env=environment,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stdout.strip()
