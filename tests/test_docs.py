"""Every block of README.md and docs/ runs as it stands against `openaiasync serve`, and prints what the page says.

`pages.py` tells how a page is read and run. Examples have a file of their own, so that another process can run them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pages import PAGES, Block, blocks_of, demo_server, fits, run_page, typed_program

pytestmark = pytest.mark.timeout(200)  # a page is several programs


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with demo_server(tmp_path_factory.mktemp("serve")) as base_url:
        yield base_url


def _marked(page: Path) -> Any:
    # Each page is several processes. The default tests run those that a newcomer reads first.
    marks = [] if page.name in ("README.md", "index.md", "chat.md", "errors.md") else [pytest.mark.commands]
    return pytest.param(page, marks=marks, id=page.name)


@pytest.mark.parametrize("page", [_marked(page) for page in PAGES])
def test_the_page_is_true(page: Path, api: str, tmp_path: Path) -> None:
    """A reader can paste every block of the page, and sees what the page says."""
    wrong = run_page(str(page), list(blocks_of(page.read_text(encoding="utf-8"))), api, tmp_path)
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_say_their_language(page: Path) -> None:
    """No block escapes by having no language, by a misspelt one, or by a comment that readers do not see."""
    text = page.read_text(encoding="utf-8")
    languages = {"python", "console", "bash", "text", "diff", "json", "yaml", "html"}
    assert [(one.line, one.language) for one in blocks_of(text) if one.language not in languages] == []
    assert "<!-- not run" not in text


MADE_UP = """\
# Page

```python
first = 1
```

*Needs a GPU.*
```python
raise SystemError
```

```console
$ export WHO=me
$ openaiasync models \\
      --base-url http://localhost:8000/v1
demo-chat
…
$ pip install 'openaiasync[cli]'
$ echo hi | openaiasync chat
```

```bash
python3 -m venv .venv && .venv/bin/openaiasync demo
.venv/bin/openaiasync models
```

```python
# mytools.py
spare = 1
```
"""


def test_blocks_are_found() -> None:
    """Blocks come with language, line, note and file; commands with their output and without installs."""
    python, needing, console, bash, file = blocks_of(MADE_UP)
    assert (python.language, python.text, python.line, python.needs) == ("python", "first = 1", 4, "")
    assert (needing.line, needing.needs) == (9, "a GPU")
    models = "openaiasync models        --base-url http://localhost:8000/v1"
    assert console.commands == ["export WHO=me", models, "echo hi | openaiasync chat"]
    assert console.states == {models: "demo-chat\n…\n"}
    assert bash.commands == [".venv/bin/openaiasync models"]
    assert (python.file, file.file) == ("", "mytools.py")
    with pytest.raises(ValueError, match="line 1 has no end"):
        list(blocks_of("```python\nx"))


def test_what_is_stated_is_compared() -> None:
    """White space does not count, an ellipsis is any text, everything else counts."""
    assert fits("a  b\n c", "a b c\n")
    assert fits("Once … end.", "Once upon a\ntime: the end.")
    assert fits("1…3", "1\n2\n3")
    assert fits("…", "")
    assert not fits("a b", "a b c")
    assert not fits("a … c", "a b d")
    assert not fits("a.c", "abc")


def wrong_with(folder: Path, *texts: str, api: str = "http://127.0.0.1:1/v1", above: str = "") -> list[str]:
    """What is found in a page of these Python blocks, the last of which has this line above it."""
    lines = [1, *(10 * number for number in range(1, len(texts)))]
    blocks = [Block("python", text, line) for text, line in zip(texts, lines, strict=True)]
    blocks[-1] = Block("python", texts[-1], lines[-1], above)
    return run_page("page.md", blocks, api, folder)


@pytest.mark.commands
def test_a_block_that_hangs_is_named(tmp_path: Path) -> None:
    """The run of a page ends once a block takes too long, and the traceback names the line of the page."""
    blocks = [Block("python", "import time", 1), Block("python", "number = 1\ntime.sleep(3600)", 10)]
    (wrong,) = run_page("page.md", blocks, "http://127.0.0.1:1/v1", tmp_path, patience=1.0)
    assert "Timeout" in wrong
    assert 'File "page.md", line 11' in wrong


def test_a_wrong_block_fails_at_its_line(tmp_path: Path) -> None:
    """Blocks share names and may await at the top; what is wrong is named with its line in the page."""
    cases: list[tuple[str, str, str]] = [
        ("assert number == 3", "", ""),
        ("assert number == 4", "", "line 10: assert number == 4\nAssertionError"),
        ("print(number)  # → 3", "", ""),
        ("print(number)  # → 4", "", "line 10 prints '3\\n'"),
        ("for _ in range(number):\n    print(_, end='')\n    # → 0…2", "", ""),
        ("if number == 4:\n    print(number)  # → 4", "", "line 11 prints ''"),
        ("print(number)  # a remark", "", "line 10: a comment behind a print says what it prints"),
        ("print(number)  # → …", "", "line 10: nothing is said to be printed"),
        ("import os\nopen(os.devnull)", "", "ResourceWarning"),
        ("import no_such_library", "", "ModuleNotFoundError"),
        ("import no_such_library", "*Needs `no-such-library`.*", ""),
        ("import no_such_library", "*Needs `another-one`.*", "ModuleNotFoundError"),
        ("number", "*Needs a GPU.*", "line 10 runs to its end; it does not need a GPU"),
        ("raise SystemError", "*Needs a GPU.*", "SystemError"),
    ]
    first = "import asyncio\nnumber = await asyncio.sleep(0, 3)"
    for case, (text, above, found) in enumerate(cases):
        (folder := tmp_path / str(case)).mkdir()
        wrong = wrong_with(folder, first, text, above=above)
        assert (found in wrong[0] if found else not wrong) or pytest.fail(f"{text!r}: {wrong}")


def test_a_call_that_reaches_the_network_is_enough(tmp_path: Path) -> None:
    """A block that says what it needs runs up to its call, which goes nowhere: no name is resolved."""
    call = "import openaiasync\nawait openaiasync.Client(api_base=base, model='m', max_retries=0).chat('Hello')"
    for case, base in enumerate(("http://127.0.0.1:1/v1", "https://example.com/v1")):
        (folder := tmp_path / str(case)).mkdir()
        assert wrong_with(folder, f"base = {base!r}", call, above="*Needs a resource on Azure.*") == []
    (folder := tmp_path / "mistaken").mkdir()
    (wrong,) = wrong_with(folder, "base = 'x'", call, above="*Needs a resource on Azure.*")
    assert "ConfigurationError" in wrong


def test_a_page_is_one_typed_program() -> None:
    """Imports of a page hold for its later blocks; each block is a function, in the lines of the page."""
    blocks = [Block("python", "import os\nprint(os.name)", 3), Block("python", "await x(os.name,\n  '''a\nb''')", 9)]
    program = typed_program(blocks)
    assert compile(program, "page", "exec")
    lines = program.splitlines()
    assert (lines[3], lines[8]) == ("    print(os.name)", "    await x(os.name,")
