"""Runs the blocks of one page in order, in the current folder: `page_runner.py TASK RESULT`, two JSON files.

Python blocks share their names, like the cells of a notebook, and may await at the top. What they print is noted with
the page's line that printed it. Shell commands run one by one, each after the `export` lines above it. A block, or a
command, that takes longer than the task's `patience` ends the process, with all tracebacks on standard error.
"""

from __future__ import annotations

import ast
import asyncio
import faulthandler
import inspect
import io
import json
import re
import signal
import subprocess
import sys
import traceback
import types
from pathlib import Path
from typing import Any

SERVES = re.compile(r"\bopenaiasync serve\b")  # runs until Ctrl-C


class Notes(io.TextIOBase):
    """Standard output that notes which line of the page wrote what."""

    def __init__(self, page: str) -> None:
        self.page = page
        self.written: list[tuple[int, str]] = []

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        frame = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename != self.page:
            frame = frame.f_back  # type: ignore[assignment]
        self.written.append((frame.f_lineno if frame else 0, text))
        return len(text)


def run_python(runner: asyncio.Runner, page: str, block: dict[str, Any], names: dict[str, Any]) -> dict[str, Any]:
    """Run one block; returns what it printed, and the exception that ended it."""
    notes = Notes(page)
    sys.stdout = notes
    error = None
    try:
        # As many lines above the block as in the page, so that a traceback names the page's own line.
        code = compile("\n" * (block["line"] - 1) + block["text"], page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        done = eval(code, names)
        if inspect.iscoroutine(done):
            runner.run(done)
    except Exception as caught:
        kinds = [kind.__name__ for kind in type(caught).__mro__]
        missing = caught.name if isinstance(caught, ModuleNotFoundError) else None
        error = {"kinds": kinds, "missing": missing, "advice": "pip install" in str(caught)}
        source = dict(enumerate(block["text"].splitlines(), block["line"]))
        lines = [
            f"line {frame.lineno}: {source.get(frame.lineno or 0, frame.line)}"
            for frame in traceback.extract_tb(caught.__traceback__)
        ]
        inside = [frame.filename == page for frame in traceback.extract_tb(caught.__traceback__)]
        shown = [line for line, here in zip(lines, inside, strict=True) if here] or lines
        error["traceback"] = "\n".join([*shown, *traceback.format_exception_only(caught)])
    finally:
        sys.stdout = sys.__stdout__
    return {"printed": notes.written, "error": error}


def run_server(script: str) -> tuple[int, str, str]:
    """Run a server until its first line, then send Ctrl-C; the status 130, a Ctrl-C, counts as 0."""
    command = ["bash", "-c", script.replace("openaiasync serve", "exec openaiasync serve")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        first = server.stdout.readline()
        if first:
            server.send_signal(signal.SIGINT)
        rest, errors = server.communicate(timeout=30)
    return (0 if first and server.returncode == 130 else server.returncode), first + rest, errors


def run_commands(block: dict[str, Any], patience: float) -> list[dict[str, Any]]:
    """Run the commands of a shell block; returns status, output and errors of each."""
    exports: list[str] = []
    results: list[dict[str, Any]] = []
    for command in block["commands"]:
        faulthandler.dump_traceback_later(patience, exit=True)
        if command.startswith("export "):
            exports.append(command)
        script = "\n".join([*(line for line in exports if line != command), command])
        if SERVES.search(command):
            code, out, errors = run_server(script)
        else:
            done = subprocess.run(
                ["bash", "-c", script],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            code, out, errors = done.returncode, done.stdout, done.stderr
        results.append({"command": command, "code": code, "out": out, "errors": errors})
    return results


def main() -> None:
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module  # classes of the page are found by name, for pickles and annotations
    sys.path.insert(0, "")
    results: list[Any] = []
    with asyncio.Runner() as runner:
        for block in task["blocks"]:
            faulthandler.dump_traceback_later(task["patience"], exit=True)  # starts again with each block
            if block["file"]:
                Path(block["file"]).write_text(block["text"] + "\n", encoding="utf-8")
                results.append(None)
            elif block["language"] == "python":
                results.append(run_python(runner, task["page"], block, vars(module)))
                if results[-1]["error"] and not block["needs"]:
                    break
            else:
                results.append(run_commands(block, task["patience"]))
    Path(sys.argv[2]).write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
