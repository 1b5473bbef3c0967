"""Sessions: what was said is remembered, what failed is not, and turns come one at a time."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import (
    APIStatusError,
    ChatSession,
    Client,
    IncompleteStreamError,
    OpenAIError,
    SessionFileError,
    StructuredOutputError,
    UnprocessableEntityError,
)
from scripted import Seen, json_answer, scripted

from .talking import add, faults, talking

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
WAV = b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(20)


def roles(session: ChatSession) -> str:
    return " ".join(message["role"][0] for message in session.messages)


class TestTurns:
    """Saying things."""

    def test_what_was_said_is_sent_again(self) -> None:
        """System prompt, questions and answers; the reply has text, message, usage and finish reason."""

        async def main() -> None:
            async with talking() as (client, server, _):
                session = client.chat.session(system="be kind", temperature=0.5)
                reply = await session.say("one")
                assert (reply.text, reply.finish_reason, reply.reasoning) == ("you said one", "stop", "hm")
                assert reply.message is not None
                assert reply.usage is not None
                assert reply.usage.completion_tokens == 5
                await session.say("two", temperature=0, model="other")
                first, second = (seen.json() for seen in server.seen)
                assert (first["temperature"], first["model"]) == (0.5, "m")
                assert (second["temperature"], second["model"]) == (0, "other")
                assert second["messages"] == [
                    {"role": "system", "content": "be kind"},
                    {"role": "user", "content": "one"},
                    {"role": "assistant", "content": "you said one"},
                    {"role": "user", "content": "two"},
                ]
                assert session.messages == [*second["messages"], {"role": "assistant", "content": "you said two"}]

        run(main())

    def test_streams_are_turns_too(self) -> None:
        """Pieces of text; the turn is there when the stream has ended, with `final()` as reply."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session()
                async with session.stream("one") as stream:
                    assert session.messages == []
                    text = "".join([piece.text async for piece in stream])
                    assert text == stream.text == "you said one "
                    assert roles(session) == "u a"
                    assert (await session.say("two")).text == "you said two"  # in the block: the stream is over
                assert (await stream.final()).text == text
                reply = await session.stream("three").final()
                assert reply.text == "you said three "
                assert roles(session) == "u a u a u a"

        run(main())

    def test_the_system_prompt_and_the_model_can_change(self) -> None:
        """From the next turn on."""

        async def main() -> None:
            async with talking() as (client, server, _):
                session = client.chat.session(model="a")
                await session.say("one")
                session.system, session.model = "be brief", "b"
                await session.say("two")
                sent = server.seen[-1].json()
                assert sent["model"] == "b"
                assert sent["messages"][0] == {"role": "system", "content": "be brief"}
                session.system = session.model = None
                await session.say("three")
                assert server.seen[-1].json()["messages"][0]["role"] == "user"
                assert server.seen[-1].json()["model"] == "m"
                for name in ("system", "model"):
                    with pytest.raises(TypeError, match=f"{name} must be a str or None, not int"):
                        setattr(session, name, 3)

        run(main())

    def test_images_and_sound(self, tmp_path: Path) -> None:
        """Files, bytes and URLs stand in the user's message, which is kept and sent again."""
        (tmp_path / "a.png").write_bytes(PNG)

        async def main() -> None:
            async with talking() as (client, server, _):
                session = client.chat.session()
                reply = await session.say("What?", images=[tmp_path / "a.png", "https://example.org/x"], audio=WAV)
                assert reply.text == "you said What? (image_url) (image_url) (input_audio)"
                await session.stream(images=PNG).final()
                first, second = (seen.json()["messages"] for seen in server.seen)
                assert [part["type"] for part in first[0]["content"]] == [
                    "text",
                    "image_url",
                    "image_url",
                    "input_audio",
                ]
                assert first[0]["content"][3]["input_audio"]["format"] == "wav"
                assert second[0] == first[0]
                assert [part["type"] for part in second[2]["content"]] == ["image_url"]

        run(main())

    def test_content_parts_and_messages_to_begin_with(self) -> None:
        """Both in the API's form; answers' messages too."""

        async def main() -> None:
            async with talking() as (client, server, _):
                answer = await client.chat("hello")
                before = [{"role": "user", "content": "hello"}, answer.message]
                session = client.chat.session(system="s", messages=before)
                await session.say([{"type": "text", "text": "one"}])
                assert roles(session) == "s u a u a"
                assert server.seen[-1].json()["messages"][3]["content"] == [{"type": "text", "text": "one"}]

        run(main())

    def test_an_answer_cut_by_its_length_stays(self) -> None:
        """It is an answer; the finish reason says what it is."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session()
                reply = await session.say("a long story")
                assert (reply.text, reply.finish_reason) == ("and so on", "length")
                await session.say("go on")
                assert roles(session) == "u a u a"

        run(main())

    def test_odd_answers_leave_a_history_that_can_be_sent(self) -> None:
        """A refusal without content; half a surrogate pair."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session()
                await session.say("refuse this")
                await session.say("surrogate")
                assert session.messages[-1]["content"] == "half \ufffd"
                await session.say("go on")
                assert roles(session) == "u a u a u a"

        run(main())


class TestStructured:
    """Answers as values; more in test_turn.py."""

    def test_the_answer_as_a_value(self) -> None:
        """Rounds of repair leave no trace in the history, and their tokens count."""

        async def script(seen: Any, writer: Any) -> None:
            messages = seen.json()["messages"]
            assert faults(messages) == ""
            content = '{"value": 42}' if "again" in str(messages[-1]) or len(messages) > 2 else '{"value": "x"}'
            message = {"role": "assistant", "content": content}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            usage = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}
            body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
            writer.write(json_answer({**body, "usage": usage}))

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
                session = client.chat.session()
                reply = await session.say("How many?", into=int)
                assert reply.parsed == 42
                assert roles(session) == "u a"
                assert session.usage.requests == len(reply.answers) == 2
                with pytest.raises(StructuredOutputError) as caught:
                    await session.fork().edit(0, into=int, repair=0)
                assert caught.value.partial is not None
                assert (await session.say("and again", into=int)).parsed == 42

        run(main())


class TestTools:
    """Turns with tools; more in test_turn.py."""

    def test_tools_of_the_session_and_of_a_turn(self) -> None:
        """All messages of the turn are kept; `tools=` on a turn replaces; the decorator adds."""

        async def main() -> None:
            async with talking() as (client, server, _):
                session = client.chat.session()

                @session.tool
                def add(a: int, b: int) -> int:
                    """Add."""
                    return a + b

                assert add(1, 1) == 2
                reply = await session.say("two tools")
                assert reply.text == "the tool said 3"
                assert [result.value for result in reply.tool_calls] == [3, 3]
                assert roles(session) == "u a t t a"
                await session.say("hello", tools=[])
                assert "tools" not in server.seen[-1].json()
                await session.stream("the tool again").final()
                assert roles(session) == "u a t t a u a u a t a"
                with pytest.raises(ValueError, match="Two tools are named 'add'"):
                    session.tool(add)
                assert session.tools.names == ["add"]

        run(main())

    def test_tools_that_fail_are_told_or_raised(self) -> None:
        """By the session's option or the turn's; a raised failure leaves no trace in the history."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session(tools=[add])
                reply = await session.say("garbled tool")
                assert not reply.tool_calls[0].ok
                with pytest.raises(OpenAIError, match=r"no tool"):
                    await session.say("unknown tool", on_tool_error="raise")
                assert roles(session) == "u a t a"

        run(main())

    def test_a_tool_that_asks_its_own_session_is_told(self) -> None:
        """It would wait for itself; a fork it may ask."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session()

                async def add(a: int, b: int) -> str:
                    with pytest.raises(RuntimeError, match=r"use session\.fork\(\)"):
                        await session.say("hello")
                    with pytest.raises(RuntimeError, match=r"use session\.fork\(\)"):
                        await asyncio.create_task(session.stream("hello").final())
                    return (await session.fork().say("hello")).text

                session.tool(add)
                assert (await session.say("tool")).text == "the tool said you said hello"
                assert (await session.stream("tool").final()).text == "the tool said you said hello "

        run(main())


class TestFailures:
    """A turn that fails never was."""

    def test_a_refused_turn(self) -> None:
        """The history is unchanged, the error has the received part, and the next turn works."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session(tools=[add])
                await session.say("one")
                before = session.messages
                with pytest.raises(UnprocessableEntityError) as caught:
                    await session.say("fail")
                assert session.messages == before
                assert caught.value.partial is session.last_partial
                assert session.last_partial is not None
                assert session.last_partial.answers == []
                await session.say("two")
                assert session.last_partial is None
                assert roles(session) == "u a u a"

        run(main())

    def test_a_broken_stream(self) -> None:
        """What came is on the error, and on the session."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session()
                with pytest.raises(IncompleteStreamError) as caught:
                    async with session.stream("cut this") as stream:
                        async for _ in stream:
                            pass
                assert caught.value.partial.text == "you said "
                assert session.last_partial is not None
                assert session.last_partial.text == "you said "
                assert session.messages == []
                assert (await session.say("one")).text == "you said one"

        run(main())

    @pytest.mark.parametrize("streamed", [False, True])
    def test_a_cancelled_turn(self, streamed: bool) -> None:
        """In the middle of an answer; the next turn does not wait for it."""

        async def main() -> None:
            async with talking() as (client, _, talker):
                session = client.chat.session()

                async def turn() -> Any:
                    if streamed:
                        return await session.stream("wait here").final()
                    return await session.say("wait here")

                task = asyncio.create_task(turn())
                await talker.waiting.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert session.messages == []
                assert session.last_partial is not None
                assert session.last_partial.text in ("", "you ", "you said ")
                assert (await session.say("one")).text == "you said one"

        run(main())

    @pytest.mark.parametrize("leave", ["break", "close", "forget"])
    def test_a_stream_left_early_is_a_cancelled_turn(self, leave: str) -> None:
        """By `break`, by `close`, or by forgetting it: the turn never was, and holds up nobody."""

        async def main() -> None:
            async with talking() as (client, _, talker):
                session = client.chat.session()
                stream: Any = session.stream("wait here")
                async for piece in stream:
                    if piece.text:
                        break
                if leave == "forget":
                    del stream, piece
                    gc.collect()
                else:
                    if leave == "break":
                        async with stream:
                            pass
                    await stream.close()
                    assert session.last_partial is not None
                    assert session.last_partial.text.startswith("you ")
                    with pytest.raises(RuntimeError, match="closed before its end"):
                        await stream.final()
                talker.gate.set()
                assert session.messages == []
                assert (await session.say("one")).text == "you said one"

        run(main())

    def test_what_cannot_be_read_is_not_said(self, tmp_path: Path) -> None:
        """A missing image fails the turn before anything is sent."""

        async def main() -> None:
            async with talking() as (client, server, _):
                session = client.chat.session()
                with pytest.raises(FileNotFoundError):
                    await session.say("What?", images=tmp_path / "no.png")
                with pytest.raises(FileNotFoundError):
                    await session.stream("What?", images=tmp_path / "no.png").final()
                with pytest.raises(ValueError, match="not a WAV or MP3"):
                    await session.say("What?", audio=PNG)
                assert (session.messages, server.seen) == ([], [])

        run(main())

    def test_answers_without_choices(self) -> None:
        """A server that answers nothing fails no later turn."""

        async def script(seen: Any, writer: Any) -> None:
            assert faults(seen.json()["messages"]) == ""
            body = {"id": "x", "object": "chat.completion", "created": 1, "model": None, "choices": []}
            writer.write(json_answer(body))

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
                session = client.chat.session()
                for _ in range(3):
                    try:
                        await session.say("hello")
                    except OpenAIError:
                        assert session.messages == []

        run(main())


class TestOrder:
    """Turns of one session one at a time."""

    def test_concurrent_turns_wait_in_order(self) -> None:
        """Each sees the ones before it; a cancelled one that waits harms nobody; forks do not wait."""

        async def main() -> None:
            async with talking() as (client, server, talker):
                session = client.chat.session()
                first = asyncio.create_task(session.say("wait one"))
                await talker.waiting.wait()
                others = [asyncio.create_task(session.say(name)) for name in ("two", "three")]
                others.append(asyncio.create_task(session.stream("four").final()))
                late = session.stream("five")
                others.append(asyncio.create_task(late.final()))
                await asyncio.sleep(0.01)
                others[0].cancel()
                await late.close()
                assert (await session.fork().say("aside")).text == "you said aside"
                assert [len(seen.json()["messages"]) for seen in server.seen] == [1, 1]
                talker.gate.set()
                await first
                await others[1]
                await others[2]
                with pytest.raises(RuntimeError, match="closed"):
                    await others[3]
                said = [message["content"] for message in session.messages if message["role"] == "user"]
                assert said == ["wait one", "three", "four"]
                assert not any(b'"five"' in seen.body or b'"two"' in seen.body for seen in server.seen)

        run(main())

    def test_a_turn_while_ones_own_stream_is_open_is_refused(self) -> None:
        """It would wait for ever."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session()
                async with session.stream("one") as stream:
                    await stream.__anext__()
                    with pytest.raises(RuntimeError, match="this task has a stream of the session open"):
                        await session.say("two")
                    for change in (session.undo, lambda: session.load("x")):
                        with pytest.raises(RuntimeError, match="while a turn is running"):
                            change()
                    assert (await stream.final()).text == "you said one "
                assert roles(session) == "u a"

        run(main())

    def test_sessions_outlive_event_loops(self) -> None:
        """As a terminal uses them: a loop for each turn, one of which ended with its stream open."""
        kept: list[Any] = []

        async def turn(session: ChatSession | None) -> ChatSession:
            async with talking() as (client, _, talker):
                if session is None:
                    session = client.chat.session()
                else:
                    session._state.engine = client._calls
                stream = session.stream("wait here")
                await stream.__anext__()
                kept.append(stream)
                talker.gate.set()
                return session

        session = run(turn(None))
        assert run(turn(session)).messages == []


class TestChanging:
    """Going back."""

    def test_undo(self) -> None:
        """The last turn is gone with all its messages, which are answered."""

        async def main() -> None:
            async with talking() as (client, server, _):
                session = client.chat.session(system="s", tools=[add])
                await session.say("one")
                await session.say("tool")
                gone = session.undo()
                assert [message["role"] for message in gone] == ["user", "assistant", "tool", "assistant"]
                assert roles(session) == "s u a"
                await session.say(gone[0]["content"])
                assert len(session.undo(2)) == 6
                assert roles(session) == "s"
                with pytest.raises(IndexError, match="cannot undo 1 turns: the session has 0"):
                    session.undo()
                for bad in (0, -1, True, 1.5):
                    with pytest.raises(ValueError, match="at least 1"):
                        session.undo(bad)  # type: ignore[arg-type]
                assert session.usage.requests == len(server.seen)

        run(main())

    def test_edit(self) -> None:
        """What the user said is replaced and answered anew; what followed is gone; without text it is asked again."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session(system="s")
                for name in ("one", "two", "three"):
                    await session.say(name)
                reply = await session.edit(3, "deux")
                assert reply.text == "you said deux"
                assert [message["content"] for message in session.messages[1::2]] == ["one", "deux"]
                again = await session.edit(-2)
                assert again.text == "you said deux"
                assert roles(session) == "s u a u a"
                assert (await session.stream("uno", at=1).final()).text == "you said uno "
                assert roles(session) == "s u a"

        run(main())

    def test_an_edit_that_fails_changes_nothing(self) -> None:
        """Neither a refused turn nor an index that names no message of the user."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session(system="s")
                await session.say("one")
                before = session.messages
                with pytest.raises(APIStatusError):
                    await session.edit(1, "fail")
                stream = session.stream("cut", at=1)
                with pytest.raises(IncompleteStreamError):
                    await stream.final()
                with pytest.raises(IndexError, match="no message 3"):
                    await session.edit(3, "x")
                with pytest.raises(ValueError, match="the role assistant; only messages of the user"):
                    session.stream("x", at=2)
                with pytest.raises(ValueError, match=r"set session\.system"):
                    await session.edit(0, "x")
                assert session.messages == before

        run(main())

    def test_forks_go_their_own_way(self) -> None:
        """History, system prompt, model, tools and usage; in both directions."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session(system="s", seed=1)
                await session.say("one")
                fork = session.fork()
                assert fork.messages == session.messages
                fork.system, fork.model = "other", "x"
                fork.tool(add)
                await fork.say("two")
                session.undo()
                assert (session.system, session.model, session.tools.names) == ("s", None, [])
                assert (session.usage.requests, fork.usage.requests) == (1, 2)
                assert (roles(session), roles(fork)) == ("s", "s u a u a")
                assert fork.params == {"seed": 1}

        run(main())


class TestArguments:
    """What cannot work is told before anything is sent."""

    @pytest.mark.parametrize(
        ("given", "kind", "complaint"),
        [
            ({"n": 2}, TypeError, r"does not accept n: each turn of a session has one answer.*fork\(\)"),
            ({"stream": True}, TypeError, r"does not accept stream: session.stream\(...\) streams"),
            ({"messages": []}, TypeError, "does not accept messages: a session keeps"),
            ({"functions": []}, TypeError, "does not accept functions: use tools"),
            ({"temprature": 1}, TypeError, "no parameter 'temprature'; did you mean 'temperature'"),
            ({"max_round": 1}, TypeError, "no parameter 'max_round'; did you mean 'max_rounds'"),
            ({"max_rounds": 0}, ValueError, "max_rounds must be at least 1"),
            ({"model": 3}, TypeError, "model must be a str or None, not int"),
            ({"tools": [add, add]}, ValueError, "Two tools are named 'add'"),
            ({"tools": [lambda x: x]}, (TypeError, ValueError), "tool"),
        ],
    )
    def test_wrong_options(self, given: Any, kind: Any, complaint: str) -> None:
        """On the session, and on each turn; with what to do instead."""

        async def main() -> None:
            async with talking() as (client, server, _):
                if "messages" not in given:
                    with pytest.raises(kind, match=complaint):
                        client.chat.session(**given)
                session = client.chat.session()
                with pytest.raises(kind, match=complaint):
                    await session.say("x", **given)
                with pytest.raises(kind, match=complaint):
                    session.stream("x", **given)
                assert server.seen == []

        run(main())

    @pytest.mark.parametrize(
        ("given", "kind", "complaint"),
        [
            ({}, ValueError, "the message is empty"),
            ({"text": ""}, ValueError, "the message is empty"),
            ({"text": "", "images": [], "audio": ()}, ValueError, "the message is empty"),
            ({"text": 3}, TypeError, "takes the user's text, or a list of content parts .*, not int"),
            ({"text": b"x"}, TypeError, "not bytes"),
            ({"text": ["x"]}, TypeError, "takes the user's text, or a list of content parts"),
            ({"text": {"role": "user", "content": "x"}}, TypeError, "not dict"),
            ({"images": [3]}, TypeError, r"session.say\(\): int is not a valid image; pass a path, bytes, a URL"),
            ({"images": ""}, ValueError, "an image is empty"),
            ({"audio": {"voice": "x"}}, TypeError, "dict is not a valid sound; pass a path, bytes, or"),
            ({"audio": "https://example.org/x.wav"}, ValueError, "cannot be a URL"),
            ({"audio": b""}, ValueError, "a sound is empty"),
        ],
    )
    def test_what_cannot_be_said(self, given: Any, kind: Any, complaint: str) -> None:
        """Types and emptiness are looked at before the turn begins."""

        async def main() -> None:
            async with talking() as (client, server, _):
                with pytest.raises(kind, match=complaint):
                    await client.chat.session().say(**given)
                assert server.seen == []

        run(main())

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"context_limit": 0}, "context_limit must be a number of tokens above 0, not 0"),
            ({"context_limit": "8k"}, "context_limit must be a number"),
            ({"policy": "forget"}, 'policy must be "drop", "summarise" or "refuse"'),
            ({"budget": 3}, "budget needs prices"),
            ({"messages": [{"role": "user", "content": "x"}]}, r"pass it to say\(\) instead"),
            ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "1"}]}, r"messages\[0\] answers the tool"),
        ],
    )
    def test_sessions_that_cannot_be(self, options: Any, complaint: str) -> None:
        """As `ValueError`, which configuration errors are too."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                with pytest.raises(ValueError, match=complaint):
                    client.chat.session(**options)

        run(main())

    def test_both_clients_have_sessions(self) -> None:
        """They are a part of `client.chat` under every door, and say what they are."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session(model="m2")
                assert isinstance(session, ChatSession)
                await session.say("one")
                assert repr(session) == "<ChatSession with m2: 1 turn>"
                assert issubclass(SessionFileError, OSError)

        run(main())


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("where", ["slot", "key", "pause", "sent"])
def test_what_a_cancelled_turn_costs(where: str, streamed: bool) -> None:
    """Only a request that may be with the server is charged: not one that waits for a slot, a key, or its next try."""
    waits = asyncio.Event()
    key_waits = False

    async def key() -> str:
        if key_waits:
            waits.set()
            await asyncio.sleep(60)
        return "k"

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        waits.set()
        if where == "pause":
            writer.write(json_answer({}, 429, Retry_After="60"))
            await writer.drain()
        else:
            await asyncio.sleep(60)

    async def main() -> None:
        nonlocal key_waits
        key_waits = where == "key"
        async with scripted(script) as server:
            options: Any = {"api_key": key, "http_max_in_flight": 1, "max_retries": 2}
            async with Client(api_base=server.url, model="m", **options) as client:
                holder = asyncio.create_task(client.chat("holds the slot")) if where == "slot" else None
                if holder is not None:
                    await waits.wait()
                session = client.chat.session(prices={"*": (1.0, 1.0)}, budget=100)
                said = session.stream("one").final() if streamed else session.say("one")
                task = asyncio.create_task(said)
                await waits.wait()
                await asyncio.sleep(0.05)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert session.usage.requests == (1 if where == "sent" else 0)
                if holder is not None:
                    holder.cancel()
                    await asyncio.wait([holder])

    run(main())
