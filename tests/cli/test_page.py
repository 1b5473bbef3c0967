"""The blocks of the page about the command line that need a terminal or a shell, compared with what happens there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from openaiasync.demo import demo_app
from openaiasync.server import ServerThread, serve, start_in_thread
from pages import REPOSITORY, Block, blocks_of, fits

from .command import environment
from .glass import Glass

pexpect = pytest.importorskip("pexpect", reason="needs a pseudo-terminal")
pytestmark = pytest.mark.commands

BLOCKS = list(blocks_of((REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")))
TOOLS = '''
def weather(city: str) -> str:
    """Return the weather of a city."""
    return "31 °C, sunny"
'''
PATIENCE = 30.0


def needing(what: str) -> list[Block]:
    found = [block for block in BLOCKS if block.needs == what]
    assert found, f"no block needs {what}"
    return found


@pytest.fixture(scope="module")
def any_model() -> Iterator[ServerThread]:
    """The server of the documentation, which takes any name of a model."""
    with start_in_thread(serve(demo_app())) as running:
        yield running


@pytest.fixture
def shell(any_model: ServerThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of a reader in an empty folder with the tools of the page."""
    (tmp_path / "mytools.py").write_text(TOOLS, encoding="utf-8")
    program = tmp_path / "bin" / "openaiasync"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m openaiasync "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return environment(PATH=path, OPENAI_BASE_URL=any_model.base_url, HOME=str(tmp_path))


@pytest.mark.parametrize("block", needing("a terminal"), ids=lambda block: f"line {block.line}")
def test_a_conversation(block: Block, shell: dict[str, str]) -> None:
    """The lines with a prompt are typed; the screen then shows what the page shows."""
    command, *lines = block.text.splitlines()
    child = pexpect.spawn(
        "/bin/sh", ["-c", command.removeprefix("$ ")], env=shell, encoding="utf-8", dimensions=(40, 100)
    )
    child.delaybeforesend = None
    glass = Glass(100, 40)
    try:
        for typed in [line.removeprefix("> ") for line in lines if line.startswith("> ")]:
            prompts = sum(line.startswith(">") for line in glass.lines)
            while glass.lines[glass.row] != ">" or sum(line.startswith(">") for line in glass.lines) <= prompts - 1:
                glass.feed(child.read_nonblocking(65_536, timeout=PATIENCE))
            child.send(f"{typed}\r")
            while glass.lines[glass.row] == ">":
                glass.feed(child.read_nonblocking(65_536, timeout=PATIENCE))
        with pytest.raises(pexpect.EOF):
            while True:
                glass.feed(child.read_nonblocking(65_536, timeout=PATIENCE))
    finally:
        child.close(force=True)
    assert fits("\n".join(lines), glass.text), glass.text
    assert child.exitstatus == 0


@pytest.mark.parametrize(
    "command", [one for block in needing("an interactive shell") for one in block.text.splitlines()]
)
def test_the_lines_for_a_shell(command: str, shell: dict[str, str]) -> None:
    """Each line loads the completion in its shell, in the file that its comment names."""
    line, _, comment = command.removeprefix("$ ").partition("#")
    name = re.search(r"completion (\w+)", line)
    assert name is not None
    program = shutil.which(name[1])
    if program is None:
        pytest.skip(f"{name[1]} is not installed")
    start = "autoload -Uz compinit; compinit -D\n" if "after compinit" in comment else ""
    known = {"bash": "complete -p openaiasync", "zsh": "print $_comps[openaiasync]", "fish": "complete -c openaiasync"}
    script = f"{start}{line}\n{known[name[1]]}"
    done = subprocess.run([program, "-c", script], env=shell, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "openaiasync" in done.stdout
