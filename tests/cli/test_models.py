"""`openaiasync models`, and the choice of a model without --model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from openaiasync.cli.console import json_bytes
from openaiasync.server import ServerThread

from .command import Answer, call, inside, one_line, spied


def listing(*names: str) -> Answer:
    models = [{"id": name, "object": "model", "created": 1, "owned_by": "somebody"} for name in names]
    return 200, json.dumps({"object": "list", "data": models}).encode()


def test_names_one_a_line(server: ServerThread) -> None:
    """A pipe gets bare names."""
    done = call("models", "--base-url", server.base_url)
    assert done.stdout == "demo-chat\ndemo-complete\ndemo-image\ndemo-tts\ndemo-stt\ndemo-embed\ndemo-moderation\n"
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "answer",
    [[{"id": "a"}, {"id": "b"}], {"models": [{"name": "a", "model": "a"}, {"name": "b"}]}, {"data": ["a", "b"]}],
    ids=["bare", "Ollama", "names"],
)
def test_lists_of_other_servers(answer: Any) -> None:
    """However a server writes its list, the names are printed."""
    with spied(lambda path, body: (200, json.dumps(answer).encode())) as (server, _):
        assert inside("models", "--base-url", server.base_url).stdout == "a\nb\n"
        listed = json.loads(inside("models", "--json", "--base-url", server.base_url).stdout)
    assert [model["id"] for model in listed] == ["a", "b"]


def test_json_is_all_that_the_server_tells(server: ServerThread) -> None:
    """`--json` prints an array of the unchanged objects."""
    models = json.loads(inside("models", "--json", "--base-url", server.base_url).stdout)
    assert [model["id"] for model in models][:2] == ["demo-chat", "demo-complete"]
    assert len(models) == 7
    assert {"id", "object", "created", "owned_by"} <= set(models[0])


def test_json_keeps_fields_of_other_servers() -> None:
    """Fields that the library does not know are there too, and text is readable."""
    answer: dict[str, Any] = {"object": "list", "data": [{"id": "größe", "object": "model", "max_len": 5}]}
    with spied(lambda path, body: (200, json.dumps(answer).encode())) as (server, _):
        done = inside("models", "--json", "--base-url", server.base_url)
    (model,) = json.loads(done.stdout)
    assert model.items() >= answer["data"][0].items()
    assert "größe" in done.stdout


def test_a_lone_surrogate_stays_an_escape() -> None:
    """No text that a server can send makes the output fail."""
    assert json.loads(json_bytes(["\ud83d"])) == ["\ud83d"]


def test_no_model_at_all() -> None:
    """An empty list is a note and exit code 0; `chat` fails without a model."""
    with spied(lambda path, body: listing()) as (server, _):
        listed = inside("models", "--base-url", server.base_url)
        chat = inside("chat", "hello", "--base-url", server.base_url)
    assert (listed.returncode, listed.stdout) == (0, "")
    assert "no model" in listed.stderr
    assert chat.returncode == 2
    assert one_line(chat.stderr)
    assert "--model" in chat.stderr


@pytest.mark.parametrize(
    ("names", "command", "taken", "said"),
    [
        (["only-one"], "chat", "only-one", False),
        (["only-one"], "embed", "only-one", False),
        (["text-embedder", "talker"], "chat", "talker", True),
        (["talker", "text-embedder"], "embed", "text-embedder", True),
        (["first", "second"], "embed", "first", True),
    ],
)
def test_the_model_when_none_is_named(names: list[str], command: str, taken: str, said: bool) -> None:
    """The only model, or the first with a suitable name; a choice is noted on stderr."""

    def answer(path: str, body: object) -> Answer:
        return listing(*names) if path.endswith("/models") else (400, b"{}")

    with spied(answer) as (server, spy):
        done = inside(command, "--base-url", server.base_url, stdin=b"hello\n")
    sent = spy.bodies("/chat/completions") + spy.bodies("/embeddings")
    assert {body["model"] for body in sent} == {taken}
    assert (f"Using {taken}" in done.stderr) == said
    assert done.returncode == 1


def test_a_named_model_is_taken_unseen(server: ServerThread) -> None:
    """With `-m` the list is not requested, and an unknown model is an error of the server."""
    with spied() as (spying, spy):
        done = inside("chat", "hello", "-m", "nobody", "--base-url", spying.base_url)
    assert spy.bodies("/models") == []
    assert done.returncode == 1
    assert "nobody" in done.stderr
