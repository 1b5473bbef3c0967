"""The pages of the documentation as programs: their blocks, how they are run, and what they say about their output.

* Python blocks of a page run in order and share their names, like a notebook; `await` may stand at the top.
* A comment that begins with ``# →`` says what the `print` before it prints, whatever the white space; ``…`` stands for
  any text. Other comments are not allowed behind a `print`.
* A block whose first line is ``# NAME.py`` is that file.
* In shell blocks every line runs, or those with a prompt, ``$``, where there are prompts; the lines below a prompt are
  what the command prints. `pip`, `uvx` and the like are left out: `scripts/newcomer` runs them.
* ``*Needs WHAT.*`` right above a block says why it cannot run to its end with the demo server. It has to end with a
  network call that failed, with an import of a library that is named there in backticks, or with advice to install
  it. Shell commands are not run then.
* ``*From `FILE`.*`` right above a block: it is an excerpt of that file, which another test runs.
* ``<!-- output -->`` right above a text block: what the block before prints.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import subprocess
import sys
import textwrap
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
SHELLS = ("console", "bash", "sh")
NEEDS = re.compile(r"\*Needs (.+)\.\*")
EXCERPT = re.compile(r"\*From `(.+)`\.\*")
FILE = re.compile(r"# ([\w-]+\.py)\n")
INSTALLS = re.compile(r"(^|[\s/])(pip|uv|uvx|pipx|npm|git clone|python3? -m venv)\s")
OUTPUT = "<!-- output -->"
UNREACHED = ("APIConnectionError", "NotFoundError")  # of a server that is not here, or cannot do that


@dataclass
class Block:
    """A fenced block."""

    language: str
    text: str
    line: int  # of its first line, from 1
    above: str = ""  # the line above its fence
    file: str = ""  # the file that it shows
    needs: str = ""  # what it lacks to run to its end
    source: str = ""  # the file of which it is an excerpt
    commands: list[str] = field(default_factory=list[str])  # of a shell block, without installs
    states: dict[str, str] = field(default_factory=dict[str, str])  # command: what it prints, as the page says

    def __post_init__(self) -> None:
        needs, source, file = NEEDS.fullmatch(self.above), EXCERPT.fullmatch(self.above), FILE.match(self.text)
        self.needs, self.source = needs[1] if needs else "", source[1] if source else ""
        if self.language == "python" and file:
            self.file = file[1]
        elif self.language in SHELLS:
            self._read_transcript()

    def _read_transcript(self) -> None:
        lines = self.text.replace("\\\n", " ").splitlines()
        prompts = any(line.startswith("$ ") for line in lines)
        command = ""
        for line in lines:
            if line.startswith("$ ") or not prompts:
                command = line.removeprefix("$ ")
                if command.strip() and not INSTALLS.search(command) and not self.needs:
                    self.commands.append(command)
            elif command:
                self.states[command] = f"{self.states.get(command, '')}{line}\n"


def blocks_of(markdown: str) -> Iterator[Block]:
    """The fenced blocks of a page."""
    lines = markdown.splitlines()
    start, language, fence = 0, "", ""
    for number, line in enumerate(lines, 1):
        match = re.match(r" *(```+)(\S*)", line)
        if not fence and match:
            start, fence, language = number, match[1], match[2]
        elif fence and line.strip() == fence:
            above = lines[start - 2].strip() if start > 1 else ""
            yield Block(language, "\n".join(lines[start : number - 1]), start + 1, above)
            fence = ""
    if fence:
        raise ValueError(f"the block of line {start} has no end")


# ---------------------------------------------------------------- what a page says, and what happens


def fits(stated: str, printed: str) -> bool:
    """Whether this was stated; white space counts as one blank, ``…`` stands for any text."""
    said, happened = (" ".join(text.split()) for text in (stated, printed))
    pattern = ".*?".join(re.escape(part.strip()) for part in said.split("…"))
    return re.fullmatch(pattern.replace(".*?", r"\s*.*?\s*"), happened, re.DOTALL) is not None


@dataclass
class Statement:
    """A statement without a body, with what the comments say that it prints. Lines are those of the page."""

    first: int
    last: int
    prints: bool
    stated: list[str] = field(default_factory=list[str])


def statements_of(block: Block) -> tuple[list[Statement], list[str]]:
    """The statements of a Python block, and what is wrong with its comments."""
    code = "\n" * (block.line - 1) + block.text
    found: list[Statement] = []
    for node in ast.walk(compile(code, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)):
        if isinstance(node, ast.stmt) and not hasattr(node, "body") and not isinstance(node, ast.Match):
            call = node.value if isinstance(node, ast.Expr) else None
            prints = isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "print"
            found.append(Statement(node.lineno, node.end_lineno or node.lineno, prints))
    found.sort(key=lambda statement: statement.first)
    wrong: list[str] = []
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, behind = token.start[0], bool(token.line[: token.start[1]].strip())
        before = [one for one in found if one.first <= line <= one.last or (not behind and one.last < line)]
        if token.string.startswith("# →"):
            if before:
                before[-1].stated.append(token.string[3:])
            else:
                wrong.append(f"line {line}: nothing prints {token.string!r}")
        elif behind and before and before[-1].prints:
            wrong.append(f"line {line}: a comment behind a print says what it prints, as # →: {token.string!r}")
    said = ((one.first, "".join(one.stated)) for one in found if one.stated)
    wrong += [f"line {line}: nothing is said to be printed" for line, text in said if not text.replace("…", "").strip()]
    return found, wrong


def unlike(block: Block, printed: list[tuple[int, str]]) -> list[str]:
    """What a Python block prints otherwise than its page says."""
    statements, wrong = statements_of(block)
    for statement in statements:
        if statement.stated:
            text = "".join(text for line, text in printed if statement.first <= line <= statement.last)
            if not fits("\n".join(statement.stated), text):
                wrong.append(f"line {statement.first} prints {text!r}")
    return wrong


def judged(block: Block, result: Any) -> list[str]:
    """What happened otherwise than the page says, when the block was run."""
    if block.file:
        return []
    if block.language == "python":
        error = result["error"]
        if not error:
            unneeded = block.needs and "`" not in block.needs  # a library may be installed
            said = [f"line {block.line} runs to its end; it does not need {block.needs}"] if unneeded else []
            return said + unlike(block, result["printed"])
        if block.needs and error["missing"]:
            reached = error["missing"].replace("_", "-") in block.needs
        else:
            reached = bool(block.needs and (error["advice"] or set(UNREACHED) & set(error["kinds"])))
        return [] if reached else [error["traceback"]]
    wrong = [f"$ {one['command']}\n{one['out']}{one['errors']}" for one in result if one["code"]]
    wrong += [f"$ {one['command']}\n{one['errors']}" for one in result if "Exception ignored" in one["errors"]]
    for one in result:
        stated = block.states.get(one["command"])
        if stated and not fits(stated, one["out"]) and not fits(stated, one["errors"] + one["out"]):
            wrong.append(f"$ {one['command']}\nprints\n{one['out']}{one['errors']}")
    return wrong


def is_excerpt(block: Block) -> bool:
    """Whether the block stands in its file as it is, whatever its indentation there."""
    lines = (REPOSITORY / block.source).read_text(encoding="utf-8").splitlines()
    wanted = block.text.splitlines()
    windows = (lines[start : start + len(wanted)] for start in range(len(lines)))
    return any(textwrap.dedent("\n".join(window)) == block.text for window in windows)


def output_of(block: Block, result: Any) -> str:
    """Everything that a block printed."""
    if block.language == "python":
        return "".join(text for _, text in result["printed"])
    return "".join(one["out"] for one in result)


def environment_of(api: str, folder: Path) -> dict[str, str]:
    """The environment of a reader: the address of the server and a key, and nothing of the machine's own settings.

    A reader sits at a terminal, so nothing says `CI`, where cassettes are not recorded.
    """
    scripts = str(Path(sys.executable).parent)
    offline = str(REPOSITORY / "tests" / "offline")
    paths = [offline, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **{name: value for name, value in os.environ.items() if name != "CI"},
        "OPENAI_BASE_URL": api,
        "OPENAI_API_KEY": "sk-of-the-docs",
        "OPENAIASYNC_PORT": "0",  # where `openaiasync serve` listens
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # none of this machine, but ours
        "PYTEST_PLUGINS": "openaiasync.testing.plugin",
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "utf-8",
        "XDG_STATE_HOME": str(folder / "state"),  # where `openaiasync chat` keeps sessions
        "XDG_CONFIG_HOME": str(folder / "config"),
    }


@contextmanager
def demo_server(folder: Path) -> Iterator[str]:
    """`openaiasync serve`, as a reader starts it; yields its base URL."""
    command, log = [sys.executable, "-m", "openaiasync", "serve"], folder / "server.log"
    with open(log, "wb") as errors:
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment_of("", folder)
        )
    with server:
        assert server.stdout is not None
        try:
            url = server.stdout.readline().strip()
            assert url, f"openaiasync serve has not started: {log.read_text(encoding='utf-8')}"
            yield url
        finally:
            server.terminate()


def run_page(
    page: str, blocks: list[Block], api: str, folder: Path, *, warnings: str = "error", patience: float = 100.0
) -> list[str]:
    """Run the blocks of a page in a folder; returns all that is otherwise than the page says.

    Each block, or command of a shell block, may take `patience` seconds: a page has up to forty commands, whose time
    together says nothing about any of them on a busy machine.
    """
    programs = [one for one in blocks if one.language in ("python", *SHELLS) and not one.source]
    here = folder / "here"
    here.mkdir()
    task, result = folder / "task.json", folder / "result.json"
    described = [
        {key: getattr(one, key) for key in ("language", "text", "line", "file", "needs", "commands")}
        for one in programs
    ]
    task.write_text(json.dumps({"page": page, "blocks": described, "patience": patience}), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("page_runner.py")), str(task), str(result)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        cwd=here,
        env={**environment_of(api, folder), "PYTHONWARNINGS": warnings},
    )
    if done.returncode or "Exception ignored" in done.stderr or "never awaited" in done.stderr:
        return [done.stdout + done.stderr]
    results = json.loads(result.read_text(encoding="utf-8"))
    wrong = [f"line {one.line} is not in {one.source}" for one in blocks if one.source and not is_excerpt(one)]
    wrong += [problem for one, what in zip(programs, results, strict=False) for problem in judged(one, what)]
    by_line = dict(zip((one.line for one in programs), results, strict=False))
    for before, block in pairwise(blocks):
        if block.above == OUTPUT and before.line in by_line:
            printed = output_of(before, by_line[before.line])
            if not fits(block.text, printed):
                wrong.append(f"line {block.line}: the block before prints\n{printed}")
    return wrong


def typed_program(blocks: list[Block], *, shared: bool = False) -> str:
    """The Python blocks of a page as a program for type checkers, line by line that of the page.

    A block is an asynchronous function; `shared`, all blocks are one, since they share names. Imports are made for the
    whole page.
    """
    lines: list[str] = []
    imports: list[str] = []
    for block in blocks:
        if block.language != "python" or block.file or block.source:
            continue
        tree = compile(block.text, "block", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        assert isinstance(tree, ast.Module)
        imports += [ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        hoisted = {n for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)) for n in _span(node)}
        within = {n for node in ast.walk(tree) if isinstance(node, ast.Constant) for n in list(_span(node))[1:]}
        start = f"async def block_{block.line}() -> None:" if not (shared and lines) else ""
        lines += [""] * (block.line - 2 - len(lines)) + [start]
        for number, line in enumerate(block.text.splitlines(), 1):
            lines.append("    pass" if number in hoisted else line if number in within else f"    {line}")
    header = "; ".join(["from __future__ import annotations", *dict.fromkeys(imports)])
    return "\n".join([header, *lines[1:], ""])


def _span(node: ast.stmt | ast.expr) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)
