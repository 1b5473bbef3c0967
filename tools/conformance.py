"""Write the table of docs/which-server.md: what `openaiasync doctor` finds at the real servers of the tests.

    python tools/conformance.py            the demo server, llama.cpp (wheel `xllamacpp`), and, if
                                           OPENAIASYNC_TRANSFORMERS_VENV names an environment, `transformers serve`
    python tools/conformance.py NAME=URL   these servers instead, printed and not written; the key is OPENAI_API_KEY

The servers run a tiny model with scripted answers: a row says what the server can do, not how clever a model is.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "which-server.md"
BEGIN, END = "<!-- conformance -->\n", "<!-- /conformance -->\n"
KEY = "key-of-the-table"


class Checked(NamedTuple):
    """One server, as `doctor` sees it: its findings by name."""

    name: str
    findings: dict[str, dict[str, Any]]


ROWS = (
    ("lists its models", "models", "state"),
    ("a chat", "chat", "state"),
    ("usage of a chat", "chat", "usage"),
    ("a stream, in pieces", "stream", "state"),
    ("usage in streams", "stream", "usage"),
    ("a signal that a stream is complete", "stream", "complete"),
    ("a call of a tool, if it is required", "tools", "supported"),
    ("answers held to a JSON schema", "schema", "supported"),
    ("the Responses API", "responses", "supported"),
    ("embeddings", "embeddings", "state"),
    ("embeddings in base64", "embeddings", "base64"),
)


async def check(name: str, url: str, key: str | None, embedding_url: str | None = None) -> Checked:
    """Run the checks of `doctor`, for embeddings at another URL if the server needs another process for them."""
    from openaiasync.cli.arguments import ServerOptions
    from openaiasync.cli.doctor_command import diagnose

    found: dict[str, dict[str, Any]] = {}
    for base, wanted in ((url, ""), (embedding_url, "embeddings")):
        if base is None:
            continue
        options = ServerOptions(base_url=base, api_key=key)
        async for finding in diagnose(options, None, "tiny" if wanted else None):
            if not wanted or finding.name == wanted:
                found[finding.name] = {"state": finding.state, "text": finding.text, **finding.data}
    return Checked(name, found)


def cell(server: Checked, check_name: str, field: str) -> str:
    """Return a cell of the table: yes, no, or a dash for what was not checked."""
    finding = server.findings.get(check_name)
    if finding is None or finding["state"] == "skipped":
        return "–"
    if field == "state":
        return "yes" if finding["state"] == "ok" else "no"
    value = finding.get(field)
    return "–" if value is None else "yes" if value else "no"


def table(servers: list[Checked]) -> str:
    """Return the table in Markdown."""
    lines = [f"| | {' | '.join(server.name for server in servers)} |", f"| --- |{' :---: |' * len(servers)}"]
    rows = ((title, [cell(server, name, field) for server in servers]) for title, name, field in ROWS)
    lines += [f"| {title} | {' | '.join(cells)} |" for title, cells in rows]
    return "\n".join(lines) + "\n"


def _of_the_tests(*names: str) -> list[Any]:
    """Return modules of tests/real_servers."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    return [importlib.import_module(f"real_servers.{name}") for name in names]


@contextmanager
def llama_server(folder: Path, *, embeddings: bool) -> Generator[str, None, None]:
    """Run llama.cpp's server with the tiny model of the tests."""
    llamacpp, processes, tiny = _of_the_tests("llamacpp", "processes", "tiny")
    model = folder / "tiny.gguf"
    if not model.exists():
        tiny.write_gguf(model)

    def command(port: int) -> list[str]:
        options = {"model": str(model), "port": port, "key": KEY, "slots": 1, "context": 8192, "embeddings": embeddings}
        return [sys.executable, llamacpp.__file__, json.dumps(options)]

    with processes.serving(command, folder / f"llama-{embeddings}.log") as running:
        yield f"{running.url}/v1"


@contextmanager
def transformers_server(folder: Path, home: str) -> Generator[str, None, None]:
    """Run `transformers serve` with the tiny model of the tests."""
    processes, tiny = _of_the_tests("processes", "tiny")
    tiny.write_huggingface(folder / "tiny")
    (folder / "home" / "hub").mkdir(parents=True)

    def command(port: int) -> list[str]:
        where = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--log-level", "warning"]
        return [str(Path(home) / "bin" / "transformers"), "serve", *where, "./tiny"]

    environment = {"HF_HOME": str(folder / "home")}
    log = folder / "transformers.log"
    with processes.serving(command, log, wait=180, environment=environment, folder=folder) as running:
        yield f"{running.url}/v1"


def measured() -> list[Checked]:
    """Start the servers of the tests, one after the other, and check them."""
    from openaiasync.demo import demo_app
    from openaiasync.server import serve, start_in_thread

    found: list[Checked] = []
    with start_in_thread(serve(demo_app())) as demo:
        found.append(asyncio.run(check("openaiasync serve", demo.base_url, None)))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        text = stack.enter_context(llama_server(folder, embeddings=False))
        vectors = stack.enter_context(llama_server(folder, embeddings=True))
        found.append(asyncio.run(check("llama.cpp", text, KEY, vectors)))
    home = os.environ.get("OPENAIASYNC_TRANSFORMERS_VENV")
    if home:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            found.append(
                asyncio.run(check("transformers serve", stack.enter_context(transformers_server(folder, home)), None))
            )
    return found


def main(arguments: list[str]) -> int:
    """Run the checks; write the page, or print the table of the named servers."""
    if arguments:
        pairs = [argument.partition("=") for argument in arguments]
        key = os.environ.get("OPENAI_API_KEY")
        print(table([asyncio.run(check(name, url, key)) for name, _, url in pairs]), end="")
        return 0
    servers = measured()
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table(servers)}{END}{after}", encoding="utf-8")
    for server in servers:
        for name, finding in server.findings.items():
            print(f"{server.name}: {name}: {finding['state']}: {finding['text']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
