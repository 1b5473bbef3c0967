"""Malformed answers of real servers: the history stays sendable, and they do not exhaust the budget."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import APITimeoutError, Client, OpenAIError, Price
from scripted import CHAT, STREAM_HEAD, Scripted, Seen, answer, chunk, event, events, json_answer, scripted

HALF = "\ud83d"
CALL = {
    "id": f"call{HALF}",
    "type": "function",
    f"more{HALF}": f"x{HALF}",
    "score": math.nan,
    "function": {"name": "echo", "arguments": json.dumps({"text": f"a{HALF}b"}), "note": HALF},
}


def echo(text: str) -> str:
    return text


def message(answer: bool, keep: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"role": "assistant", "content": f"c{HALF}"}
    if keep:
        made["reasoning_content"] = f"r{HALF}"
    if not answer:
        made["tool_calls"] = [CALL, {**CALL, "id": "call\ud83e"}]
    return made


def answer_of(said: dict[str, Any], **fields: Any) -> dict[str, Any]:
    finish = "tool_calls" if "tool_calls" in said else "stop"
    return {**CHAT, "choices": [{"index": 0, "finish_reason": finish, "message": said}], **fields}


async def odd(seen: Seen, writer: asyncio.StreamWriter) -> None:
    """First calls of tools, then words; each with halves of characters wherever a text can stand."""
    sent = seen.json()
    said = message(any(one["role"] == "tool" for one in sent["messages"]), keep=True)
    if not sent.get("stream"):
        writer.write(json_answer(answer_of(said)))
        return
    calls = [{"index": n, **call} for n, call in enumerate(said.get("tool_calls", ()))]
    delta = {**said, **({"tool_calls": calls} if calls else {})}
    first = {**chunk(), "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    writer.write(events([first, chunk(finish="tool_calls" if calls else "stop")]))


def checked(server: Scripted) -> None:
    """What was sent back is JSON in UTF-8, and each call has its answer."""
    for seen in server.seen:
        sent = json.loads(seen.body.decode())
        assert HALF not in json.dumps(sent, ensure_ascii=False)
        ids = [call["id"] for one in sent["messages"] for call in one.get("tool_calls", ())]
        assert len(set(ids)) == len(ids)
        assert ids == [one["tool_call_id"] for one in sent["messages"] if one["role"] == "tool"]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_half_characters_in_a_turn(streamed: bool, keep: bool) -> None:
    """Content, ids, names, arguments, reasoning and unknown fields: the tool runs and the turn ends well."""

    async def main() -> None:
        async with scripted(odd) as server, Client(api_base=server.url, api_key="k", model="m") as client:
            if streamed:
                async with client.chat.stream_tools("hi", tools=[echo], keep_reasoning=keep) as stream:
                    reply = await stream.final()
            else:
                reply = await client.chat.run_tools("hi", tools=[echo], keep_reasoning=keep)
            assert [result.content for result in reply.tool_calls] == ["a\ufffdb"] * 2
            assert len(server.seen) == 2
            checked(server)
            json.dumps(reply.messages, ensure_ascii=False).encode()

    run(main())


@pytest.mark.parametrize("streamed", [False, True])
def test_half_characters_in_a_session(streamed: bool, tmp_path: Path) -> None:
    """The same in a session with a budget, in its file, and in the session that goes on from it."""

    async def main() -> None:
        path = tmp_path / "a.session"
        async with scripted(odd) as server, Client(api_base=server.url, api_key="k", model="m") as client:
            options: dict[str, Any] = {"tools": [echo], "keep_reasoning": True, "context_limit": 100_000}
            session = client.chat.session(prices=Price(1, 1), budget=1, **options)
            session.save(path)
            for _ in range(2):
                if streamed:
                    async with session.stream("hi") as stream:
                        await stream.final()
                else:
                    await session.say("hi")
            session.close()
            path.read_bytes().decode()
            again = client.chat.session(**options)
            again.load(path)
            assert again.messages == session.messages
            await again.say("once more")
            checked(server)

    run(main())


@pytest.mark.parametrize("content", [f'{{"value": "{HALF}"}}', '{"value": "\\ud83d"}', f"{HALF} no JSON"])
def test_half_characters_in_an_object(content: str) -> None:
    """The model is asked again, or the answer is repaired; what is wrong with it can be told."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        said = content if len(seen.json()["messages"]) < 2 else '{"value": "fine"}'
        writer.write(json_answer(answer_of({"role": "assistant", "content": said})))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, api_key="k", model="m") as client:
            reply = await client.chat.parse("hi", into=str)
            assert reply.parsed is not None
            for seen in server.seen:
                seen.body.decode()

    run(main())


USAGES: list[Any] = [10**15, 10**400, -1, 1.5, math.nan, math.inf, True, "many", None, {}]


@pytest.mark.parametrize("value", USAGES)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_usage_that_cannot_be(value: Any, streamed: bool, tmp_path: Path) -> None:
    """Neither budget nor context of the session is lost; its file can be written and read."""
    usage = {"prompt_tokens": value, "completion_tokens": value, "total_tokens": value}
    usage["prompt_tokens_details"] = {"cached_tokens": value}
    usage["completion_tokens_details"] = {"reasoning_tokens": value}

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.json().get("stream"):
            writer.write(events([chunk("Hello."), chunk(finish="stop"), {**chunk(), "choices": [], "usage": usage}]))
        else:
            writer.write(json_answer({**CHAT, "usage": usage}))

    async def main() -> None:
        path = tmp_path / "a.session"
        async with scripted(script) as server, Client(api_base=server.url, api_key="k", model="m") as client:
            session = client.chat.session(prices=Price(1, 1), budget=1, context_limit=10_000)
            session.save(path)
            for _ in range(3):
                if streamed:
                    async with session.stream("hi") as stream:
                        reply = await stream.final()
                else:
                    reply = await session.say("hi")
                assert reply.text == "Hello."
            assert session.usage.requests == session.usage.estimated == 3
            assert 0 < session.usage.prompt_tokens < 1_000
            assert 0 < (session.usage.cost or 0) < 0.01
            session.close()
            again = client.chat.session(prices=Price(1, 1), budget=1)
            again.load(path)
            assert again.usage == session.usage

    run(main())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("how", ["clock", "cancel", "cut"])
def test_turns_that_end_in_vain_cost_their_prompt(streamed: bool, how: str) -> None:
    """A server charges what it was sent, also where nobody waited for the answer: a budget has to end at some time."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if how == "cut":
            writer.close()
            return
        if streamed and how == "cancel":
            writer.write(STREAM_HEAD + event(chunk()))
        await asyncio.sleep(60)

    async def main() -> None:
        async with scripted(script) as server:
            client = Client(api_base=server.url, api_key="k", model="m", http_timeout=0.2, max_retries=0)
            if how != "clock":
                client = Client(api_base=server.url, api_key="k", model="m", max_retries=0)
            async with client:
                session = client.chat.session(prices=Price(1, 1), budget=1)

                async def turn() -> None:
                    if streamed:
                        async with session.stream("some words to be charged") as stream:
                            await stream.final()
                    else:
                        await session.say("some words to be charged")

                for number in range(1, 4):
                    expected: Any = {"clock": APITimeoutError, "cancel": TimeoutError, "cut": Exception}[how]
                    with pytest.raises(expected):
                        await (asyncio.wait_for(turn(), 0.3) if how == "cancel" else turn())
                    assert session.usage.requests == session.usage.estimated == number
                    assert session.usage.prompt_tokens >= 5 * number
                    assert (session.usage.cost or 0) > 0

    run(main())


def test_what_was_never_sent_costs_nothing() -> None:
    """A server that is not there, and one that refuses."""

    async def refuse(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer({"error": {"message": "no"}}, 400))

    async def main() -> None:
        async with scripted(refuse) as server:
            async with Client(api_base=server.url, api_key="k", model="m") as client:
                session = client.chat.session(prices=Price(1, 1), budget=1)
                with pytest.raises(Exception, match="no"):
                    await session.say("hi")
                assert session.usage.requests == 0
            url = server.url
        async with Client(api_base=url, api_key="k", model="m", max_retries=0) as client:
            session = client.chat.session(prices=Price(1, 1), budget=1)
            with pytest.raises(Exception, match="refused"):
                await session.say("hi")
            assert session.usage.requests == 0

    run(main())


@pytest.mark.parametrize("where", ["message", "call"])
@pytest.mark.parametrize("kind", ["turn", "streamed", "session"])
def test_what_is_nested_too_deeply_to_be_sent_back(where: str, kind: str) -> None:
    """Raises the library's error, whatever Python's limit is."""
    deep = "[" * 900 + "]" * 900
    call = '{"index":0,"id":"c","type":"function","x":1,"function":{"name":"f","arguments":"{}"}}'
    said = f'"role":"assistant","content":null,"y":1,"tool_calls":[{call}]'
    said = said.replace('"x":1', f'"x":{deep}') if where == "call" else said.replace('"y":1', f'"y":{deep}')

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        if seen.json().get("stream"):
            first = json.dumps(chunk()).replace('"delta": {}', f'"delta": {{{said}}}')
            writer.write(events([first, chunk(finish="tool_calls")]))
        else:
            whole = {**CHAT, "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {}}]}
            writer.write(answer(json.dumps(whole).replace('"message": {}', f'"message": {{{said}}}').encode()))

    def f() -> None: ...

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, api_key="k", model="m") as client:
            with pytest.raises(OpenAIError):
                if kind == "turn":
                    await client.chat.run_tools("hi", tools=[f])
                elif kind == "session":
                    await client.chat.session(tools=[f]).say("hi")
                else:
                    async with client.chat.stream_tools("hi", tools=[f]) as stream:
                        await stream.final()

    run(main())
