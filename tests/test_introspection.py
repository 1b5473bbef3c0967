"""What tools see at run time: annotations that resolve, signatures, help, and modules under the official paths."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import pydoc
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import openaiasync

PUBLIC = [
    "openaiasync",
    "openaiasync.auth",
    "openaiasync.azure",
    "openaiasync.bridge",
    "openaiasync.errors",
    "openaiasync.lib.streaming.chat",
    "openaiasync.lib.streaming.responses",
    "openaiasync.otel",
    "openaiasync.pagination",
    "openaiasync.realtime",
    "openaiasync.server",
    "openaiasync.testing",
    "openaiasync.types",
    "openaiasync.types.chat",
    "openaiasync.types.responses",
]


def members(value: type) -> Iterator[tuple[str, Any]]:
    """The class itself and its public functions and properties."""
    yield value.__name__, value
    for name, member in list(vars(value).items()):
        if name.startswith("_") and name not in ("__init__", "__call__"):
            continue
        if isinstance(member, (staticmethod, classmethod)):
            member = member.__func__
        if isinstance(member, property):
            member = member.fget
        if inspect.isfunction(member):
            yield f"{value.__name__}.{name}", member


@pytest.mark.parametrize("name", PUBLIC)
def test_every_annotation_resolves(name: str) -> None:
    """`typing.get_type_hints` works on each public class and method, for documentation builders and checkers."""
    module = importlib.import_module(name)
    failed: list[str] = []
    seen = 0
    for exported in module.__all__:
        value = getattr(module, exported)
        if not getattr(value, "__module__", "").startswith("openaiasync"):
            continue
        for what, member in members(value) if inspect.isclass(value) else [(exported, value)]:
            if not inspect.isclass(member) and not inspect.isfunction(member):
                continue
            seen += 1
            try:
                typing.get_type_hints(member)
            except Exception as error:
                failed.append(f"{what}: {error!r}")
    assert failed == []
    assert seen


@pytest.mark.slow
def test_annotations_of_objects_that_methods_return() -> None:
    """They resolve, too: of the classes that no public module names, in the modules that define them."""
    modules = ["api", "bulk", "chat", "core", "engine", "methods", "official", "options", "realtime", "transport"]
    failed: list[str] = []
    seen = 0
    for top in [importlib.import_module(f"openaiasync.{name}") for name in modules]:
        below = pkgutil.walk_packages(getattr(top, "__path__", ()), f"{top.__name__}.")
        for module in [top, *(importlib.import_module(found.name) for found in below)]:
            for kind in [one for one in vars(module).values() if inspect.isclass(one)]:
                for what, member in members(kind) if kind.__module__ == module.__name__ else ():
                    seen += 1
                    try:
                        typing.get_type_hints(member)
                    except Exception as error:
                        failed.append(f"{module.__name__}: {what}: {error!r}")
    assert failed == []
    assert seen > 2000


@pytest.mark.parametrize("name", ["openaiasync", "openaiasync.Client", "openaiasync.server", "openaiasync.ChatSession"])
def test_help_works(name: str) -> None:
    """`help` shows the package and its classes."""
    text = pydoc.render_doc(pydoc.locate(name), renderer=pydoc.plaintext)
    assert "<object object at" not in text
    assert len(text) > 1000


PATHS = """
import openaiasync
assert openaiasync.resources.chat.completions.AsyncCompletions is openaiasync.resources.chat.AsyncCompletions
assert openaiasync.resources.beta.threads.runs.AsyncSteps.__name__ == "AsyncSteps"
assert openaiasync.types.chat.ChatCompletion.__name__ == "ChatCompletion"
assert openaiasync.pagination.AsyncPage is openaiasync.AsyncPage
from openaiasync._types import NOT_GIVEN, FileTypes, NotGiven, Omit, omit
assert omit is openaiasync.omit and NOT_GIVEN is openaiasync.NOT_GIVEN
from openaiasync._exceptions import APIError
assert APIError is openaiasync.APIError
from openaiasync.resources import AsyncChat, AsyncResponses
from openaiasync.resources.chat.completions import AsyncCompletions
assert openaiasync.resources.chat.AsyncCompletions is AsyncCompletions
from openaiasync.resources.beta import AsyncThreads
import openaiasync.api.chat.completions, openaiasync.resources.beta.threads.runs
assert AsyncCompletions is openaiasync.api.chat.completions.AsyncCompletions
client = openaiasync.AsyncOpenAI(api_key="k", base_url="http://localhost:1/v1")
assert client.base_url.host == "localhost"
assert type(client.chat) is AsyncChat and type(client.chat.completions) is AsyncCompletions
for wrong in ("openaiasync.nothing", "openaiasync.types.nothing", "openaiasync.resources.nothing"):
    module, _, name = wrong.rpartition(".")
    import importlib
    assert not hasattr(importlib.import_module(module), name)
    try:
        importlib.import_module(wrong)
    except ModuleNotFoundError as error:
        assert error.name == wrong, error.name
    else:
        raise AssertionError(wrong)
"""


def test_official_paths_exist() -> None:
    """Modules under the paths of the official client are the same ones, not second copies; wrong names are refused."""
    done = subprocess.run([sys.executable, "-c", PATHS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_answers_go_where_people_put_them() -> None:
    """`dict`, a field of a pydantic model, and reprs that do not print base64."""
    pydantic = pytest.importorskip("pydantic")
    message = {"role": "assistant", "content": "hi"}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    sent = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "other": 4}
    answer = openaiasync.types.chat.ChatCompletion(**typing.cast("Any", sent))
    fields = dict(answer)
    assert fields["choices"] is answer.choices
    assert {"id": "1", "other": 4}.items() <= fields.items()

    class Holder(pydantic.BaseModel):
        answer: openaiasync.types.chat.ChatCompletion

    held = Holder(answer=typing.cast("Any", sent))
    assert held.answer.choices[0].message.content == "hi"
    assert Holder(answer=answer).answer is answer
    assert held.model_dump() == {"answer": sent}
    assert Holder.model_validate_json(held.model_dump_json()) == held
    assert Holder.model_json_schema()["properties"]["answer"]["type"] == "object"
    with pytest.raises(pydantic.ValidationError, match="ChatCompletion is made from a dict, not from int"):
        Holder(answer=typing.cast("Any", 5))


def test_reprs_are_short() -> None:
    """A picture and an embedding show their size; text shows itself."""
    picture = openaiasync.types.Image(b64_json="iVBORw0KGgo" * 1000)
    assert repr(picture) == "Image(b64_json=<'iVBORw0KGgoi'… 11,000 characters>)"
    raw = openaiasync.types.Embedding(index=0, object="embedding", value=b"\0" * 6144)
    assert repr(raw) == "Embedding(index=0, embedding=<1,536 numbers: 0.0, 0.0, 0.0, …>, object='embedding')"
    listed = openaiasync.types.Embedding(index=0, object="embedding", value=[0.5] * 1536)
    assert "<1,536 numbers: 0.5, 0.5, 0.5, …>" in repr(listed)
    text = "a long text, " * 100
    assert text in repr(openaiasync.types.chat.ChatCompletionMessage(role="assistant", content=text, refusal=None))


def test_help_shows_no_address_of_an_object() -> None:
    """A default without a value of its own has a name in `help`, in every namespace that callers reach first."""
    client = openaiasync.Client(api_base="http://127.0.0.1:9/v1")
    for topic in (openaiasync.Client, client.chat, client.chat.completions.create, client.embedding, client.models):
        assert "<object object at" not in pydoc.render_doc(topic, renderer=pydoc.plaintext), topic


def test_help_begins_with_what_most_calls_name() -> None:
    """Required parameters come first, then common ones; names have no modules, and lists of models are not shown."""
    client = openaiasync.Client(api_base="http://127.0.0.1:9/v1")
    create = str(inspect.signature(client.chat.completions.create)).splitlines()
    shown = [line.strip() for line in create[1:7]]
    assert shown[:3] == ["*,", "stream: bool | None = None,", "model: str,"]
    assert shown[3].startswith("messages: Iterable[ChatCompletionDeveloperMessageParam | ")
    assert shown[4:] == ["temperature: float | None = omit,", "max_tokens: int | None = omit,"]
    assert create[-1] == ") -> Union[ChatCompletion, AsyncStream[ChatCompletionChunk]]"
    options = str(inspect.signature(openaiasync.Client)).splitlines()
    assert [line.split(":")[0].strip() for line in options[2:5]] == ["api_base", "api_key", "model"]
    assert str(inspect.signature(client.chat.session(model="m").undo)) == "(turns: int = 1) -> list[dict[str, Any]]"
    for method in (client.chat, client.embedding, client.responses.create, client.with_options, client.chat.session):
        assert not re.search(r"collections\.abc|openaiasync\.|typing\.", str(inspect.signature(method))), method


@pytest.mark.notebook
def test_names_are_completed_as_in_a_notebook() -> None:
    """jedi, which completes in Jupyter and IPython, offers the parameters of methods and options."""
    jedi = pytest.importorskip("jedi")
    client = openaiasync.Client(api_base="http://127.0.0.1:9/v1", model="m")
    names = {"client": client, "session": client.chat.session()}
    for code, wanted in (
        ('client.chat("hi", temp', "temperature="),
        ("client.chat.completions.create(temp", "temperature="),
        ('client.chat.stream("hi", temp', "temperature="),
        ('client.embedding("a", dim', "dimensions="),
        ("client.responses.create(inp", "input="),
        ("client.chat.session(sys", "system="),
        ("client.with_options(http_ti", "http_timeout="),
    ):
        offered = [one.name for one in jedi.Interpreter(code, [names]).complete(1, len(code))]
        assert wanted in offered, code
