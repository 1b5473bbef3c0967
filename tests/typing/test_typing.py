"""The types are an interface: what editors are promised holds for mypy and for pyright, and mistakes are reported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pages import PAGES, blocks_of, typed_program

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
PROMISES, MISTAKES = HERE / "promises.py", HERE / "mistakes.py"
MARK = re.compile(r"# (?P<mypy>[\w,-]+) \| (?P<pyright>[\w,]+)$")

pytestmark = pytest.mark.timeout(300)
Found = set[tuple[str, int, str]]  # file name, line, code or rule


def marked(checker: str) -> Found:
    """The errors that the comments in `mistakes.py` ask for."""
    lines = MISTAKES.read_text(encoding="utf-8").splitlines()
    marks = ((number, MARK.search(line)) for number, line in enumerate(lines, 1))
    return {(MISTAKES.name, number, code) for number, mark in marks if mark for code in mark[checker].split(",")}


def run(*command: str, empty: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        cwd=REPOSITORY,
        env={
            **os.environ,
            "MYPYPATH": str(REPOSITORY / "src"),
        },  # these sources, wherever the package is installed from
    )
    assert done.stdout or (empty and not done.stderr), done.stderr
    return done.stdout


def test_mypy(tmp_path: Path) -> None:
    """`mypy --strict` accepts every promise, reports every mistake, with these codes and no other.

    It accepts the code of README.md and the examples, too.
    """
    pytest.importorskip("mypy")
    readme = tmp_path / "readme.py"  # its line numbers are those of README.md
    readme.write_text(typed_program(list(blocks_of((REPOSITORY / "README.md").read_text(encoding="utf-8")))), "utf-8")
    programs = [PROMISES, MISTAKES, readme, *EXAMPLES]
    options = ("--strict", "--no-error-summary", "--hide-error-context", "--no-pretty")
    output = run("mypy", *options, *map(str, programs))
    errors = re.findall(r"^(?:.*[/\\])?(\w+\.py):(\d+): error: .*\[([\w-]+)\]$", output, re.MULTILINE)
    assert {(name, int(line), code) for name, line, code in errors} == marked("mypy")


@pytest.mark.commands
def test_mypy_on_the_documentation(tmp_path: Path) -> None:
    """The code of all pages is well typed, but for what makes examples short and is the reader's.

    Functions of a reader may be without annotations, and optional fields are used without asking. A page's blocks share
    names; those that name a file are modules.
    """
    pytest.importorskip("mypy")
    names: dict[str, str] = {}
    for page in PAGES:
        blocks = list(blocks_of(page.read_text(encoding="utf-8")))
        program = tmp_path / f"{page.stem.replace('-', '_').lower()}_page.py"
        program.write_text(typed_program(blocks, shared=True), "utf-8")  # its line numbers are those of the page
        names[program.name] = page.name
        for block in blocks:
            if block.language == "python" and block.file:
                (tmp_path / block.file).write_text("\n" * (block.line - 1) + block.text + "\n", "utf-8")
                names[block.file] = page.name
    lenient = ["--no-strict-optional", "--allow-untyped-defs", "--allow-untyped-calls", "--allow-untyped-decorators"]
    shape = [
        "--allow-redefinition",
        "--ignore-missing-imports",
        "--no-error-summary",
        "--hide-error-context",
        "--no-pretty",
    ]
    output = run("mypy", "--strict", *lenient, *shape, *map(str, sorted(tmp_path.glob("*.py"))), empty=True)
    errors = re.findall(r"^(?:.*[/\\])?(\w+\.py):(\d+): error: (.*)$", output, re.MULTILINE)
    wrong = [f"{names[name]}:{line}: {text}" for name, line, text in errors]
    assert [text for text in wrong if "temprature" not in text] == []
    assert len(wrong) == 1, "the parameter that a page misspells is no longer reported"


def test_pyright() -> None:
    """Pyright accepts every promise under its strict rules and reports every mistake, with these rules and no other."""
    pytest.importorskip("pyright")
    report: dict[str, Any] = json.loads(
        run("pyright", "--pythonpath", sys.executable, "--outputjson", str(PROMISES), str(MISTAKES))
    )
    errors = [one for one in report["generalDiagnostics"] if one["severity"] == "error"]
    found = {(Path(one["file"]).name, one["range"]["start"]["line"] + 1, str(one.get("rule"))) for one in errors}
    assert found == marked("pyright")


def test_mistakes_are_marked_for_both() -> None:
    """The marks are found: about as many lines for one checker as for the other, and none by accident."""
    lines = {checker: {line for _, line, _ in marked(checker)} for checker in ("mypy", "pyright")}
    assert lines["mypy"] == lines["pyright"]
    assert len(lines["mypy"]) > 30
