"""A notebook against `openaiasync serve`, executed by nbclient with a real kernel: what a reader sees in Jupyter.

One kernel runs all cells and answers all requests for completion and help (a few seconds); each test looks at its part.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pages import demo_server, environment_of

pytestmark = [pytest.mark.notebook, pytest.mark.timeout(200)]

SECRET = "sk-of-the-notebook"
CELLS = {
    "imports": "import asyncio\nfrom dataclasses import dataclass\nfrom openaiasync import Client",
    "client": "client = Client(model='demo')\nclient",
    "answer": "answer = await client.chat('Why is the sky blue?')\nanswer",
    "text": "print(answer.text)",
    "stream": (
        "async with client.chat.stream('Count to 3.') as stream:\n"
        "    async for piece in stream:\n"
        "        print(piece.text, end='', flush=True)"
    ),
    "gather": "calls = [client.chat('Say hello.') for _ in range(5)]\nlen(await asyncio.gather(*calls))",
    "reply": "session = client.chat.session(system='Be brief.')\nawait session.say('Say hello.')",
    "session": "session",
    "parsed": (
        "@dataclass\nclass City:\n    name: str\n    people: int\n\n"
        "await client.chat.parse('Paris has 2100000 people.', into=City)"
    ),
    "picture": "pictures = await client.image_generate('a red circle', size='256x256')\npictures.data[0]",
    "pictures": "pictures",
    "sound": "await client.text_to_speech('Hello', voice='alloy', response_format='wav')",
    "vectors": "await client.embedding(['first text', 'second text'])",
    "rows": "await client.map(['a', 'b'])",
    "mistake": "await client.chat(['hi'])",
    "refusal": "await client.chat('hi', n=0)",
    "unreachable": "await Client(api_base='http://127.0.0.1:9/v1', model='m', max_retries=0).chat('hi')",
    "closed": "await client.aclose()\nclient",
}
COMPLETE = {  # code with the cursor at its end: a name that is offered
    'client.chat("hi", temp': "temperature=",
    'client.chat.stream("hi", temp': "temperature=",
    "client.chat.completions.create(temp": "temperature=",
    "client.chat.session(sys": "system=",
    'client.embedding("a", dim': "dimensions=",
    "client.responses.create(inp": "input=",
    "client.with_options(http_ti": "http_timeout=",
    "Client(api_b": "api_base=",
    "client.image_g": "image_generate",
    "session.su": "summary",
    "answer.te": "text",
    "answer.choices[0].mess": "message",
}
INSPECT = ("client.chat", "client.chat.completions.create", "Client", "client.embedding(")


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the notebook shows."""
    folder = tmp_path_factory.mktemp("notebook")
    task, result = folder / "task.json", folder / "result.json"
    described = {"cells": list(CELLS.values()), "complete": list(COMPLETE), "inspect": INSPECT}
    task.write_text(json.dumps(described), encoding="utf-8")
    with demo_server(folder) as api:
        environment = {
            **environment_of(api, folder),
            "OPENAI_API_KEY": SECRET,
            "PYTHONWARNINGS": "default",  # those of Jupyter's libraries
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        }
        done = subprocess.run(
            [sys.executable, str(Path(__file__).with_name("kernel_runner.py")), str(task), str(result)],
            capture_output=True,
            encoding="utf-8",
            timeout=150,
            check=False,
            cwd=folder,
            env=environment,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    read = json.loads(result.read_text(encoding="utf-8"))
    return {**read, "outputs": dict(zip(CELLS, read["outputs"], strict=True))}


def shown(seen: dict[str, Any], cell: str) -> dict[str, Any]:
    """The representations of the value that a cell ends with; there is nothing beside it."""
    [output] = seen["outputs"][cell]
    assert output["output_type"] == "execute_result", output
    return dict(output["data"])


def printed(seen: dict[str, Any], cell: str) -> str:
    assert {output["output_type"] for output in seen["outputs"][cell]} == {"stream"}, seen["outputs"][cell]
    return "".join(output["text"] for output in seen["outputs"][cell])


def raised(seen: dict[str, Any], cell: str) -> tuple[str, str]:
    """The name and the text of the error with which a cell ended."""
    output = seen["outputs"][cell][-1]
    assert output["output_type"] == "error", output
    return output["ename"], output["evalue"]


def test_calls_are_awaited_at_the_top(seen: dict[str, Any]) -> None:
    """Whole answers, streams and several calls at once, in the loop of the kernel."""
    assert seen["outputs"]["imports"] == []
    assert printed(seen, "text").startswith("Sunlight holds all colours.")
    assert printed(seen, "stream").strip() == "1, 2, 3."
    assert shown(seen, "gather")["text/plain"] == "5"


def test_texts_are_markdown(seen: dict[str, Any]) -> None:
    """A chat answer, a reply, a value in JSON, and a session with its turns."""
    assert shown(seen, "answer")["text/markdown"].startswith("Sunlight holds all colours.")
    assert shown(seen, "reply")["text/markdown"] == "hello."
    session = shown(seen, "session")
    assert re.search(r"System.*Be brief\..*User.*Say hello\..*Assistant.*hello\.", session["text/markdown"], re.DOTALL)
    assert session["text/plain"].endswith(": 1 turn>")
    text = shown(seen, "parsed")["text/markdown"].removeprefix("```json\n").removesuffix("\n```")
    assert json.loads(text) == {"name": "Paris", "people": 2100000}


def test_pictures_and_sound_are_shown_as_themselves(seen: dict[str, Any]) -> None:
    """A picture is a PNG, several are HTML, and sound has a player."""
    assert base64.b64decode(shown(seen, "picture")["image/png"]).startswith(b"\x89PNG")
    assert shown(seen, "pictures")["text/html"].startswith('<img src="data:image/png;base64,')
    assert re.match(r'<audio controls src="data:audio/wav;base64,UklGR', shown(seen, "sound")["text/html"])


def test_everything_else_is_short(seen: dict[str, Any]) -> None:
    """Vectors, rows, media and the client, whose repr knows whether it is closed."""
    for cell in ("vectors", "rows", "picture", "sound", "client"):
        assert len(shown(seen, cell)["text/plain"]) < 400, cell
    assert re.fullmatch(r"<Client http://\S+/v1>", shown(seen, "client")["text/plain"])
    assert re.fullmatch(r"<Client http://\S+/v1, closed>", shown(seen, "closed")["text/plain"])


def test_errors_say_what_to_do(seen: dict[str, Any]) -> None:
    """A mistake, a refusal by the server and a server that is not there; no output of the notebook has the key."""
    assert raised(seen, "mistake") == (
        "TypeError",
        "client.chat() takes a text or a list of messages, not a list of texts",
    )
    kind, text = raised(seen, "refusal")
    assert kind == "BadRequestError"
    assert "'n'" in text
    kind, text = raised(seen, "unreachable")
    assert (kind, "could not connect" in text) == ("APIConnectionError", True)
    assert SECRET not in json.dumps(seen)


@pytest.mark.parametrize("code", COMPLETE)
def test_tab_completes(code: str, seen: dict[str, Any]) -> None:
    """The kernel offers parameters of methods that take them as ``**params``, and the fields of answers."""
    assert COMPLETE[code] in seen["completed"][code]


@pytest.mark.parametrize("code", INSPECT)
def test_help_is_shown(code: str, seen: dict[str, Any]) -> None:
    """A question mark, or Shift-Tab, shows the parameters with their defaults, common ones first, and the docstring."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", seen["inspected"][code])
    assert "Docstring:" in text
    assert "<object object at" not in text
    head = text[:600]
    for name in ("api_base", "api_key", "model") if code == "Client" else ("model",):
        assert re.search(rf"^ *{name}: ", head, re.MULTILINE), head
    assert "collections.abc" not in head
