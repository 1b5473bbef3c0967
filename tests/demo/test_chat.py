"""A conversation with `demo-chat`: what it knows, remembers, obeys and calls."""

from __future__ import annotations

import json
import time
from base64 import b64encode
from typing import Any

import pytest

from openaiasync.demo.chat import DemoConversation, DemoReply, reply_to
from openaiasync.demo.style import style_of
from openaiasync.server import ChatRequest

GIF = b"GIF89a\x20\x00\x10\x00\x00\x00\x00"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather forecast of a city",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"enum": ["celsius", "fahrenheit"]},
            },
            "required": ["city"],
        },
    },
}
SUMS = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Calculate an expression",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    },
}
NOTE = {"type": "custom", "custom": {"name": "write_note", "description": "Write a note down"}}


def conversation(*texts: str, system: str = "") -> list[dict[str, Any]]:
    """User and assistant in turn, the user first."""
    roles = ("user", "assistant")
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    return messages + [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]


def reply(messages: list[dict[str, Any]], variant: int = 0, **more: Any) -> DemoReply:
    """The answer to a request with these messages and fields."""
    request = ChatRequest({"model": "demo-chat", "messages": messages, "seed": variant, **more}, None)  # type: ignore[arg-type]
    return reply_to(DemoConversation.of(request))


def say(*texts: str, system: str = "", variant: int = 0) -> str:
    return reply(conversation(*texts, system=system), variant).text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Hello", "Hello! What can I do for you?"),
        ("hi there!", "Hello! What can I do for you?"),
        ("Thank you very much", "You are welcome."),
        ("Bye", "Goodbye!"),
        ("How are you?", "I am well, thank you. And you?"),
        ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
        ("What is 17 * 23?", "17 * 23 = 391."),
        ("My name is Judy.", "Nice to meet you, Judy."),
        ("I am tired", "Tell me more about tired."),
        ("", "You have said nothing yet."),
    ],
)
def test_answers(text: str, answer: str) -> None:
    assert say(text) == answer


def test_facts() -> None:
    assert "scattered" in say("Why is the sky blue?")
    assert "demo-chat" in say("Who are you?")
    assert "Guido" in say("What is Python?")


def test_always_an_answer() -> None:
    """Whatever is said; the same to the same."""
    for text in ("?", "🦊", "\x00", "{}{0}", "%s", "ok", "a" * 5000, "Why?", "\n\n", "I think therefore I am."):
        assert say(text)
        assert say(text) == say(text)


def test_remembers() -> None:
    """Names and other things the user told, the latest word counting."""
    assert say("Hi, my name is Judy.", "Hello.", "What is my name?") == "Your name is Judy."
    assert say("I'm Emmy", "Hello.", "Who am I?") == "Your name is Emmy."
    assert (
        say("My favourite colour is green.", "Noted.", "And my dog is called Rex", "Noted.", "What's my dog?")
        == "Your dog is Rex."
    )
    assert say("My name is Al.", "Hi.", "No, my name is Bo.", "Hi.", "What is my name?") == "Your name is Bo."
    assert say("What is my name?") == "You have not told me your name yet."
    assert say("My cat is grey", "Noted.", "What is my name?") == "You have not told me your name yet."


def test_story_has_its_heroes() -> None:
    story = say("Tell me a story of two princesses, Judy and Emmy.")
    assert "two princesses" in story
    assert story.count("Judy") > 2
    assert story.count("Emmy") > 1
    assert 80 < len(story.split()) < 200
    assert say("Tell me a story", variant=1) != say("Tell me a story")


def test_variants_differ() -> None:
    assert len({say("Hello", variant=variant) for variant in range(3)}) == 3
    assert say("Hello", variant=3) == say("Hello")


@pytest.mark.parametrize(
    ("system", "text", "answer"),
    [
        ("Answer in French.", "Hello", "Bonjour ! Que puis-je faire pour vous ?"),
        ("Always speak German.", "Thanks", "Gern geschehen."),
        ("Answer in Spanish and in uppercase.", "Hello", "¡HOLA! ¿EN QUÉ PUEDO AYUDARLE?"),
        ("Reply in capital letters.", "Hello", "HELLO! WHAT CAN I DO FOR YOU?"),
        ("Respond in lowercase only.", "Hello", "hello! what can i do for you?"),
        ("Answer in one word.", "What is the capital of France?", "Paris"),
        ("Use a single word.", "What is 6 * 7?", "42"),
        ("Be brief.", "Why is the sky blue?", "Sunlight holds all colours."),
        ("End every answer with 'Over.'", "Thanks", "You are welcome. Over."),
        ('Begin each reply with "Sir,"', "Thanks", "Sir, You are welcome."),
        ("You are Hal, a ship's computer.", "What is your name?", "My name is Hal."),
        ("", "What is 6 * 7? Answer in one word.", "42"),
    ],
)
def test_obeys(system: str, text: str, answer: str) -> None:
    assert say(text, system=system) == answer


def test_style_is_read_from_instructions_only() -> None:
    """Words of the subject are no instructions."""
    assert style_of("", "Convert hello to uppercase").case == ""
    assert style_of("", "Who invented capital letters?").case == ""


def test_developer_message_is_a_system_prompt() -> None:
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "Answer in French"}]},
        {"role": "user", "content": "Hello"},
    ]
    assert reply(messages).text.startswith("Bonjour")


def test_parts_are_read() -> None:
    parts = [
        {"type": "text", "text": "What is"},
        {"type": "image_url", "image_url": {"url": f"data:image/gif;base64,{b64encode(GIF).decode()}"}},
        {"type": "text", "text": "2 + 2?"},
    ]
    assert reply([{"role": "user", "content": parts}]).text == "2 + 2 = 4."


def call(text: str, *tools: dict[str, Any], **more: Any) -> list[tuple[str, Any]]:
    answer = reply(conversation(text), tools=list(tools), **more)
    assert bool(answer.text) != bool(answer.calls)
    return [
        (call.name, json.loads(call.arguments) if call.kind == "function" else call.arguments) for call in answer.calls
    ]


def test_calls_the_tool_that_suits() -> None:
    """Arguments come from the question; none is called when nothing suits."""
    assert call("What is the weather in Paris for 3 days?", SUMS, WEATHER, NOTE) == [
        ("get_weather", {"city": "Paris", "days": 3, "unit": "celsius"})
    ]
    assert call("Weather in New York in fahrenheit", WEATHER)[0][1] == {
        "city": "New York",
        "days": 1,
        "unit": "fahrenheit",
    }
    assert call("Please calculate 3 * 4 with the calculator", WEATHER, SUMS) == [
        ("calculator", {"expression": "3 * 4"})
    ]
    assert call("Write a note: buy milk", WEATHER, NOTE) == [("write_note", "Write a note: buy milk")]
    assert call("Hello", WEATHER, SUMS) == []


def test_tool_choice() -> None:
    """Never, at least one, this one, one of these."""
    question = "What is the weather in Paris?"
    named = {"type": "function", "function": {"name": "calculator"}}
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named]}}
    assert call(question, WEATHER, SUMS, tool_choice="none") == []
    assert [name for name, _ in call("Hello", WEATHER, SUMS, tool_choice="required")] == ["get_weather"]
    assert [name for name, _ in call(question, WEATHER, SUMS, tool_choice=named)] == ["calculator"]
    assert call(question, WEATHER, SUMS, tool_choice=allowed) == []
    allowed["allowed_tools"]["mode"] = "required"  # type: ignore[index]
    assert [name for name, _ in call(question, WEATHER, SUMS, tool_choice=allowed)] == ["calculator"]


def test_parallel_calls() -> None:
    """Several tools at once, if the caller can take it."""
    question = "Get the weather forecast of Rome and calculate the expression 2 + 2"
    assert {name for name, _ in call(question, WEATHER, SUMS)} == {"get_weather", "calculator"}
    assert len(call(question, WEATHER, SUMS, parallel_tool_calls=False)) == 1


def test_tells_results() -> None:
    """After a tool has answered, it says so and calls nothing again."""
    calls = [{"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}]
    messages = [
        *conversation("What is the weather in Paris?"),
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": '{"sky": "clear", "degrees": 21}'},
    ]
    answer = reply(messages, tools=[WEATHER])
    assert (answer.text, answer.calls) == ("get_weather says: sky: clear, degrees: 21.", ())


def test_json_answers() -> None:
    """An object when asked for one; an instance of the schema when there is one."""
    answer = reply(conversation("What is 2 + 2?"), response_format={"type": "json_object"}).text
    assert json.loads(answer) == {"answer": "2 + 2 = 4."}
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    answer = reply(conversation("My friend Judy is 12 years old"), response_format=form).text
    assert json.loads(answer) == {"name": "Judy", "age": 12}


def test_reasoning_by_effort() -> None:
    """None by default, more with more effort."""
    sizes = [
        len(reply(conversation("Why?"), reasoning_effort=effort).reasoning)
        for effort in ("none", "minimal", "low", "high")
    ]
    assert sizes[0] == 0
    assert sizes == sorted(set(sizes))


def test_long_and_hostile_texts_take_no_time() -> None:
    """No pattern goes wild, whatever is sent."""
    texts = [
        "tell " * 50_000,
        "how many " * 50_000,
        "answer " * 50_000,
        "(" * 100_000,
        "1+" * 100_000,
        "'" * 100_000,
        " " * 200_000,
        "my a is " * 30_000,
        "count the words in " * 10_000,
        "a" * 300_000,
    ]
    for text in texts:
        start = time.thread_time()
        assert say(text, system=text)
        assert say(text, "ok", text)
        assert time.thread_time() - start < 10, text[:20]  # what goes wild takes hours
