"""Every file of examples/ runs as it stands against `openaiasync serve`, and prints what its comments say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import REPOSITORY, Block, demo_server, run_page

pytestmark = [pytest.mark.commands, pytest.mark.timeout(200)]

# Examples that need more than the built-in server, and the test that runs each.
ELSEWHERE = {"embeddings_pgvector.py": "tests/test_pgvector.py"}
EXAMPLES = sorted(path for path in (REPOSITORY / "examples").glob("*.py") if path.name not in ELSEWHERE)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with demo_server(tmp_path_factory.mktemp("serve")) as base_url:
        yield base_url


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_example_is_true(path: Path, api: str, tmp_path: Path) -> None:
    """Every example runs as it is, and says what it prints."""
    text = path.read_text(encoding="utf-8")
    wrong = run_page(str(path), [Block("python", text, 1)], api, tmp_path)
    assert not wrong, "\n\n".join(wrong)
    assert "# → " in text


@pytest.mark.parametrize(("example", "test"), ELSEWHERE.items())
def test_other_examples_are_run_elsewhere(example: str, test: str) -> None:
    """What is left out here is there, and so is its test."""
    assert (REPOSITORY / "examples" / example).exists()
    assert example in (REPOSITORY / test).read_text(encoding="utf-8")
