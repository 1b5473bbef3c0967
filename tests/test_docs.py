"""Every code block of README.md and docs/, and every file in examples/, is run against the built-in server.

Python blocks of a page run in order and share their names, like a notebook; `await` may stand at the top. Of `console`,
`bash` and `sh` blocks the `openaiasync` commands are run. A block is left out only by a comment right above it:
``<!-- not run: reason -->``. Addresses of APIs stand for the built-in server here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from openaiasync.demo import demo_app
from openaiasync.server.http import serve
from openaiasync.server.thread import start_in_thread

pytestmark = pytest.mark.timeout(200)  # a page is several programs

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
# Examples that need more than the built-in server, and the test that runs each.
ELSEWHERE = {"embeddings_pgvector.py": "tests/test_pgvector.py"}
EXAMPLES = sorted(path for path in (REPOSITORY / "examples").glob("*.py") if path.name not in ELSEWHERE)
API = re.compile(r"https?://[\w.-]+(:\d+)?/v1\b")

RUNNER = """
import ast, asyncio, inspect, sys
page, names = sys.argv[1], {"__name__": "__main__"}
with asyncio.Runner() as runner:
    for block in sys.stdin.read().split("\\0"):
        code = compile(block, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        done = eval(code, names)
        if inspect.iscoroutine(done):
            runner.run(done)
"""


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str
    line: int  # of its first line, from 1
    reason: str  # why it is not run; "" when it is


def blocks_of(markdown: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    lines = markdown.splitlines()
    start, language, fence = 0, "", ""
    for number, line in enumerate(lines, 1):
        match = re.match(r" *(```+)(\S*)", line)
        if not fence and match:
            start, fence, language = number, match[1], match[2]
        elif fence and line.strip() == fence:
            above = lines[start - 2] if start > 1 else ""
            excuse = re.fullmatch(r"<!-- not run: (.+) -->", above.strip())
            yield Block(language, "\n".join(lines[start : number - 1]), start + 1, excuse[1] if excuse else "")
            fence = ""
    if fence:
        raise ValueError(f"the block of line {start} has no end")


def commands_of(block: Block) -> list[str]:
    """The `openaiasync` commands of a shell block: every line, or those with a prompt where there are prompts."""
    text = block.text.replace("\\\n", " ")
    lines = text.splitlines()
    prompted = [line[2:] for line in lines if line.startswith("$ ")]
    runs = re.compile(r"^(?!python3 -m venv|\S*pip ).*\bopenaiasync [a-z-]")
    return [line for line in (prompted or lines) if runs.match(line)]


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    """The base URL of the demo server, which takes any model's name and any field."""
    with start_in_thread(serve(demo_app())) as server:
        yield server.base_url


def run_here(command: list[str], api: str, folder: Path, given: str = "") -> None:
    """Run a program as a user would, with the server in its environment; it has to end well and without a warning."""
    scripts = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "OPENAI_BASE_URL": api,
        "OPENAI_API_KEY": "sk-of-the-docs",
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "utf-8",
        "XDG_STATE_HOME": str(folder / "state"),  # where `openaiasync chat` keeps sessions
        "XDG_CONFIG_HOME": str(folder / "config"),  # and templates
    }
    done = subprocess.run(
        command,
        input=given,
        capture_output=True,
        encoding="utf-8",
        timeout=50,
        check=False,
        cwd=folder,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr


def run_python(page: str, blocks: list[Block], api: str, folder: Path) -> None:
    # As many lines above each block as in the page, so that a traceback names the page's own line.
    sources = ["\n" * (block.line - 1) + API.sub(api, block.text) for block in blocks]
    run_here([sys.executable, "-c", RUNNER, page], api, folder, "\0".join(sources))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, api: str, tmp_path: Path) -> None:
    """A reader can paste every Python block of the page."""
    blocks = [one for one in blocks_of(page.read_text(encoding="utf-8")) if one.language in ("python", "py")]
    run_python(str(page), [block for block in blocks if not block.reason], api, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_run(page: Path, api: str, tmp_path: Path) -> None:
    """A reader can paste every `openaiasync` command of the page."""
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.language in ("console", "bash", "sh") and not block.reason:
            for command in commands_of(block):
                run_here(["bash", "-c", API.sub(api, command)], api, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_say_their_language(page: Path) -> None:
    """No block escapes by having no language."""
    assert [block.line for block in blocks_of(page.read_text(encoding="utf-8")) if not block.language] == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(path: Path, api: str, tmp_path: Path) -> None:
    """Every example runs as it is."""
    run_here([sys.executable, str(path)], api, tmp_path)


@pytest.mark.parametrize(("example", "test"), ELSEWHERE.items())
def test_other_examples_are_run_elsewhere(example: str, test: str) -> None:
    """What is left out here is there, and so is its test."""
    assert (REPOSITORY / "examples" / example).exists()
    assert example in (REPOSITORY / test).read_text(encoding="utf-8")


MADE_UP = """\
# Page

```python
first = 1
```

<!-- not run: needs a GPU -->
```python
raise SystemError
```

```console
$ openaiasync models --base-url http://localhost:8000/v1
demo-chat
$ pip install 'openaiasync[cli]'
$ echo hi | openaiasync chat
```

```bash
python3 -m venv .venv && .venv/bin/openaiasync demo
.venv/bin/openaiasync models
```
"""


def test_blocks_are_found() -> None:
    """Blocks come with language, line and excuse, commands without their output and without installs."""
    python, excused, console, bash = blocks_of(MADE_UP)
    assert python == Block("python", "first = 1", 4, "")
    assert excused == Block("python", "raise SystemError", 9, "needs a GPU")
    assert commands_of(console) == [
        "openaiasync models --base-url http://localhost:8000/v1",
        "echo hi | openaiasync chat",
    ]
    assert commands_of(bash) == [".venv/bin/openaiasync models"]
    with pytest.raises(ValueError, match="line 1 has no end"):
        list(blocks_of("```python\nx"))


def test_a_wrong_block_fails_at_its_line(tmp_path: Path) -> None:
    """Blocks share names and may await at the top; one that raises is named with its line in the page."""
    good = [
        Block("python", "import asyncio\nnumber = await asyncio.sleep(0, 3)", 5, ""),
        Block("python", "assert number == 3", 9, ""),
    ]
    run_python("page.md", good, "http://127.0.0.1:1/v1", tmp_path)
    with pytest.raises(AssertionError, match=r'"page.md", line 20'):
        run_python("page.md", [*good, Block("python", "assert number == 4", 20, "")], "", tmp_path)
    with pytest.raises(AssertionError, match="ResourceWarning"):
        run_python("page.md", [Block("python", "import os\nopen(os.devnull)", 1, "")], "", tmp_path)


def test_addresses_of_apis_are_replaced() -> None:
    """Any API base in a block stands for the built-in server; other addresses stay."""
    text = 'Client(api_base="http://localhost:8000/v1"), "https://api.openai.com/v1", "https://example.com/v1x"'
    assert API.sub("URL", text) == 'Client(api_base="URL"), "URL", "https://example.com/v1x"'
