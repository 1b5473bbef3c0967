"""The keywords of a turn are those of the API, but for what a turn decides itself; wrong ones are told."""

from __future__ import annotations

import inspect
import typing
from typing import Any

import pytest

import openaiasync.chat.turn_params as module
from conftest import run
from openaiasync import ChatSession, Client
from openaiasync.chat.format_fallback import FormatLevel
from openaiasync.chat.tools import OnToolError, Permit, Tools
from openaiasync.chat.turn_options import TurnOptions
from openaiasync.core.policy.request_options import RequestOptions
from openaiasync.engine.attachments import AudioSource, ImageSource
from openaiasync.params import chat, shared_params
from openaiasync.params.chat import completion_create_params
from openaiasync.testing import FakeTransport

DECIDED = {"n", "tools", "functions", "function_call"}
OWN = set(TurnOptions.__struct_fields__) - {"tools", "into"}


def names_of(*modules: Any) -> dict[str, Any]:
    """What annotations may name: of lazy modules all that they list."""
    found = {"FormatLevel": FormatLevel, "Permit": Permit, "OnToolError": OnToolError, "Tools": Tools}
    found |= {"ImageSource": ImageSource, "AudioSource": AudioSource}
    for one in modules:
        found |= {name: getattr(one, name) for name in one.__all__}
    return found


NAMES = {**vars(typing), **names_of(chat, shared_params, completion_create_params)}


def test_the_keywords_are_those_of_the_api() -> None:
    """None is missing, none is made up, each has the type that the generated ones have."""
    generated = typing.get_type_hints(completion_create_params.ChatRest, localns=NAMES)
    ours = typing.get_type_hints(module.TurnParams, localns=NAMES)
    assert ours.keys() - generated.keys() == OWN
    assert generated.keys() - ours.keys() == DECIDED
    assert {name: ours[name] for name in ours.keys() - OWN} == {
        name: kind for name, kind in generated.items() if name not in DECIDED
    }
    assert RequestOptions.__annotations__.keys() <= ours.keys()


def test_the_keywords_of_a_turn_of_a_session() -> None:
    """Are those of any turn, with what the user says in it; `audio` is the user's there."""
    ours = typing.get_type_hints(module.SayParams, localns=NAMES)
    every = typing.get_type_hints(module.TurnParams, localns=NAMES)
    assert ours.keys() - every.keys() == {"images", "tools", "at"}
    assert every.keys() <= ours.keys()
    assert {name for name in every if ours[name] != every[name]} == {"audio"}


def test_the_keywords_are_shown() -> None:
    """`help` and completion name each keyword of a session's methods, not ``**params``."""
    for method in (ChatSession.say, ChatSession.stream, ChatSession.edit):
        names = inspect.signature(method).parameters
        assert {
            "text",
            "into",
            "images",
            "audio",
            "tools",
            "at",
            "temperature",
            "max_rounds",
            "timeout",
        } <= names.keys()
        assert "params" not in names


METHODS = {
    "client.chat.run_tools()": lambda client, **given: client.chat.run_tools("hi", tools=[], **given),
    "client.chat.stream_tools()": lambda client, **given: client.chat.stream_tools("hi", tools=[], **given),
    "client.chat.parse()": lambda client, **given: client.chat.parse("hi", into=int, **given),
    "client.chat.stream_parse()": lambda client, **given: client.chat.stream_parse("hi", into=int, **given),
    "client.chat.session()": lambda client, **given: client.chat.session(**given),
    "client.chat.load_session()": lambda client, **given: client.chat.load_session("none.jsonl", **given),
    "session.say()": lambda client, **given: client.chat.session().say("hi", **given),
    "session.edit()": lambda client, **given: client.chat.session().edit(0, "hi", **given),
    "session.stream()": lambda client, **given: client.chat.session().stream("hi", **given),
}


async def refusal(method: str, **given: Any) -> str:
    """The text of the `TypeError` that a method raises before anything is sent."""
    transport = FakeTransport({})
    async with Client(api_base="http://fake/v1", http_other={"transport": transport}) as client:
        with pytest.raises(TypeError) as caught:
            made = METHODS[method](client, **given)
            await made
    assert not transport.requests
    return str(caught.value)


@pytest.mark.parametrize("method", METHODS)
def test_a_misspelt_keyword(method: str) -> None:
    """Is told with the method that was called and the name that was meant, nothing internal."""
    said = run(refusal(method, temprature=1))
    assert said.startswith(f"{method} has no parameter 'temprature'; did you mean 'temperature'?")
    assert "TurnOptions" not in said


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "value"), [("n", 2), ("stream", True), ("functions", [{}]), ("function_call", "x")])
def test_a_keyword_that_a_turn_decides(method: str, name: str, value: Any) -> None:
    """Is refused by the method that was called, which says what to do instead."""
    assert run(refusal(method, **{name: value})).startswith(f"{method} does not accept {name}: ")


@pytest.mark.parametrize("method", ["client.chat.run_tools()", "client.chat.stream_tools()"])
def test_a_type_where_tools_are_asked_for(method: str) -> None:
    """The methods that give values of a type are named, not the library's own classes."""
    assert (
        run(refusal(method, into=int))
        == f"{method} does not accept into: client.chat.parse() and client.chat.stream_parse() do"
    )


@pytest.mark.parametrize("method", METHODS)
def test_keywords_without_effect(method: str) -> None:
    """What asks for nothing else than a turn does anyway is accepted, as from code written for the official client."""
    said = run(refusal(method, n=1, stream=False, functions=None, temprature=1))
    assert said.startswith(f"{method} has no parameter 'temprature'")


@pytest.mark.parametrize("key", ["tools", "into"])
@pytest.mark.parametrize("method", ["run_tools", "stream_tools", "parse", "stream_parse"])
def test_tools_and_a_type_within_a_whole_request(method: str, key: str) -> None:
    """Functions and types are keywords; in a request given as one dict they are refused with that advice."""

    async def main() -> None:
        async with Client(api_base="http://fake/v1", http_other={"transport": FakeTransport({})}) as client:
            own: dict[str, Any] = {"into": int} if "parse" in method else {"tools": []}
            whole: Any = {"messages": [{"role": "user", "content": "hi"}], key: [len]}
            with pytest.raises(TypeError, match=rf"^client\.chat\.{method}\(\) does not accept {key}: "):
                await getattr(client.chat, method)(whole, **own)

    run(main())


def test_no_messages() -> None:
    """The method that was called is named."""

    async def main() -> None:
        async with Client(api_base="http://fake/v1", http_other={"transport": FakeTransport({})}) as client:
            for method in ("run_tools", "stream_tools"):
                with pytest.raises(
                    TypeError, match=rf"^client\.chat\.{method}\(\) is missing the required argument 'messages'"
                ):
                    await getattr(client.chat, method)(tools=[])

    run(main())
