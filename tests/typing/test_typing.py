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

from pages import blocks_of, typed_program

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


def run(*command: str) -> str:
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
    assert done.stdout, done.stderr
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
