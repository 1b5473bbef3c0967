"""Sessions and their files: every finished turn is in the file, as it happened."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import APIStatusError, ChatSession, Client, OpenAIError, Price, SessionFileError, omit
from openaiasync.storage import journal
from scripted import json_answer, scripted

from .talking import add, talking


def same(one: ChatSession, other: ChatSession) -> bool:
    """Whether two sessions hold the same."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("messages", "system", "model", "params", "usage", "summary")
    ) and list(one._state.history.turns) == list(other._state.history.turns)


def test_every_turn_is_in_the_file_when_it_is_finished(tmp_path: Path) -> None:
    """Turns, streams, undos, edits, system prompt, model, tools: after each step the file tells the same session."""
    path = tmp_path / "talk.jsonl"

    async def main() -> None:
        async with talking() as (client, _, _talker):
            session = client.chat.session(system="s", seed=1, tools=[add], timeout=9, logprobs=omit)
            await session.say("one")
            session.save(path)
            assert session.path == path

            def check() -> None:
                loaded = client.chat.load_session(path, timeout=9, logprobs=omit)
                assert same(loaded, session)
                assert loaded.path is None

            check()
            await session.say("tool")
            check()
            await session.stream("three").final()
            check()
            session.undo()
            check()
            await session.edit(1, "uno")
            check()
            with pytest.raises(APIStatusError):
                await session.say("fail")
            with pytest.raises(OpenAIError):
                await session.say("unknown tool", on_tool_error="raise")  # what it used is in the file too
            check()
            session.system, session.model = None, "other"
            check()

            @session.tool
            def more(text: str) -> str:
                """Add more."""
                return text

            loaded = client.chat.load_session(path)
            assert loaded.missing_tools == ["add", "more"]
            loaded.tool(add)
            assert loaded.missing_tools == ["more"]
            assert client.chat.load_session(path, tools=[add, more]).missing_tools == []
            assert loaded.params == {"seed": 1}  # options of calls are not saved
            session.close()
            session.close()
            await session.say("unseen")
            assert session.path is None
            assert len(client.chat.load_session(path).messages) < len(session.messages)

    run(main())


def test_going_on_with_a_file(tmp_path: Path) -> None:
    """Only when asked; what is named wins over what was saved, and is saved."""
    path = tmp_path / "talk.jsonl"

    async def main() -> None:
        async with talking() as (client, server, _):
            session = client.chat.session(system="s", model="a", temperature=0.5)
            session.save(path)
            await session.say("one")
            with pytest.raises(SessionFileError, match="in use by another session"):
                client.chat.load_session(path, append=True)
            session.close()
            read = client.chat.load_session(path)
            await read.say("two")
            appending = client.chat.load_session(path, append=True, fsync=True, model="b", temperature=0)
            assert appending.messages == session.messages
            await appending.say("three")
            assert server.seen[-1].json()["model"] == "b"
            last = client.chat.load_session(path, system="other")
            assert (last.model, last.params, last.system) == ("b", {"temperature": 0}, "other")
            assert last.messages[1:] == appending.messages[1:]
            assert last.usage == appending.usage
            with pytest.raises(TypeError, match="does not accept messages"):
                client.chat.load_session(path, messages=[])
            with pytest.raises(TypeError, match="temprature"):
                client.chat.load_session(path, temprature=1)

    run(main())


def test_load_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    """History, prompt, model, parameters and usage are the file's; tools, prices and limits the session's."""

    async def main() -> None:
        async with talking() as (client, _, _talker):
            saved = client.chat.session(system="s", tools=[add])
            await saved.say("tool")
            saved.save(tmp_path / "a.jsonl")
            saved.close()
            session = client.chat.session(model="x", seed=3, prices=Price(1, 1), context_limit=1000)
            await session.say("one")
            session.save(tmp_path / "b.jsonl")
            session.load(tmp_path / "a.jsonl", append=True)
            assert session.messages == saved.messages
            assert (session.model, session.params, session.missing_tools) == (None, {}, ["add"])
            assert (session.usage.requests, session.usage.cost) == (2, 0.0)
            assert session.path == tmp_path / "a.jsonl"
            session.undo()
            assert client.chat.load_session(tmp_path / "a.jsonl").messages == [{"role": "system", "content": "s"}]
            assert len(client.chat.load_session(tmp_path / "b.jsonl", append=True).messages) == 2  # let go of
            before = session.messages
            (tmp_path / "c").write_text("hello\n")
            for path in ("c", "none"):
                with pytest.raises(SessionFileError):
                    session.load(tmp_path / path)
            assert session.messages == before
            assert session.path == tmp_path / "a.jsonl"

    run(main())


def test_saving_again(tmp_path: Path) -> None:
    """To the same file it is already there; to another, the first is let go of; forks write to none."""
    relative = os.path.relpath(tmp_path / "b")

    async def main() -> None:
        async with talking() as (client, _, _talker):
            session = client.chat.session()
            session.save(tmp_path / "a")
            await session.say("one")
            lines = (tmp_path / "a").read_bytes()
            session.save(tmp_path / "a", fsync=True)
            assert (tmp_path / "a").read_bytes() == lines
            await session.say("two")
            session.save(tmp_path / "b")
            await session.say("three")
            assert len(client.chat.load_session(tmp_path / "a").messages) == 4
            assert len(client.chat.load_session(tmp_path / "b").messages) == 6
            fork = session.fork()
            assert fork.path is None
            await fork.say("four")
            assert len(client.chat.load_session(tmp_path / "b").messages) == 6
            with pytest.raises(SessionFileError, match="in use by another session"):
                fork.save(tmp_path / "b")
            fork.save(tmp_path / "a")
            assert len(client.chat.load_session(tmp_path / "a").messages) == 8
            with pytest.raises(SessionFileError, match="a folder that exists"):
                session.save(tmp_path / "no" / "a")
            assert session.path == tmp_path / "b"
            session.save(relative)
            assert session.path == tmp_path / "b"

    run(main())


def test_a_turn_that_cannot_be_saved_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the reply; the session has the turn; the file gets it with the next."""

    async def main() -> None:
        async with talking() as (client, _, _talker):
            session = client.chat.session()
            session.save(tmp_path / "a")

            def full(*_: Any) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            for number, streamed in enumerate((False, True)):
                with monkeypatch.context() as patch:
                    patch.setattr(journal, "write_all", full)
                    with pytest.raises(SessionFileError, match="No space left") as caught:
                        await (session.stream("one").final() if streamed else session.say("one"))
                    assert caught.value.partial.text.strip() == "you said one"
                assert len(session.messages) == 2 + 4 * number
                await session.say("two")
                assert same(client.chat.load_session(tmp_path / "a"), session)

    run(main())


def test_closing_writes_what_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or says that it cannot; the file is let go of in any case."""

    async def main() -> None:
        async with talking() as (client, _, _talker):

            def full(*_: Any) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            for lasting in (False, True):
                session = client.chat.session()
                session.save(tmp_path / "a")
                with monkeypatch.context() as patch:
                    patch.setattr(journal, "write_all", full)
                    with pytest.raises(SessionFileError):
                        await session.say("one")
                    if lasting:
                        with pytest.raises(SessionFileError, match="No space left"):
                            session.close()
                session.close()
                assert session.path is None
                assert len(client.chat.load_session(tmp_path / "a", append=True).messages) == (0 if lasting else 2)

    run(main())


def test_saving_elsewhere_is_the_way_out_of_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file has the turn that the old one lacks, and is the one that is gone on with."""

    async def main() -> None:
        async with talking() as (client, _, _talker):

            def full(*_: Any) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

            session = client.chat.session()
            session.save(tmp_path / "a")
            with monkeypatch.context() as patch:
                patch.setattr(journal, "write_all", full)
                with pytest.raises(SessionFileError):
                    await session.say("one")
                session.save(tmp_path / "b")
            await session.say("two")
            assert session.path == tmp_path / "b"
            assert same(client.chat.load_session(tmp_path / "b"), session)
            assert client.chat.load_session(tmp_path / "a", append=True).messages == []

    run(main())


def test_whatever_a_server_says_can_be_saved(tmp_path: Path) -> None:
    """Half a surrogate pair in the answer, in the model's name, in the finish reason."""

    async def script(seen: Any, writer: Any) -> None:
        message = {"role": "assistant", "content": "a\ud83d"}
        choice = {"index": 0, "finish_reason": "st\udc00p", "message": message}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "m\ud83d", "choices": [choice]}
        writer.write(json_answer(body))

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, model="m") as client:
            session = client.chat.session()
            session.save(tmp_path / "a")
            await session.say("one")
            assert same(client.chat.load_session(tmp_path / "a"), session)
            (turn,) = session._state.history.turns
            assert (turn.model, turn.finish_reason) == ("m\ufffd", "st\ufffdp")
            for name in ("system", "model"):
                with pytest.raises(ValueError, match=f"{name} contains half of a UTF-16 pair"):
                    setattr(session, name, "x\ud800")

    run(main())


def test_fsync_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread, so that others go on; a turn cancelled meanwhile is finished, and leaves no thread behind."""

    async def main() -> None:
        async with talking() as (client, _, _talker):
            session = client.chat.session()
            session.save(tmp_path / "a", fsync=True)
            loop, begun, gate = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
            synced: list[int] = []

            def slow(descriptor: int) -> None:
                loop.call_soon_threadsafe(begun.set)
                asyncio.run_coroutine_threadsafe(gate.wait(), loop).result(20)
                synced.append(descriptor)

            monkeypatch.setattr(os, "fdatasync" if hasattr(os, "fdatasync") else "fsync", slow)
            task = asyncio.create_task(session.say("one"))
            await begun.wait()
            task.cancel()
            await asyncio.sleep(0.01)
            assert not task.done()
            gate.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(synced) == 1
            assert len(session.messages) == 2

    run(main())


def test_a_killed_program_loses_no_finished_turn(tmp_path: Path) -> None:
    """Killed within a turn: those before are there, and the file can be gone on with."""
    if not hasattr(os, "fork"):
        pytest.skip("no SIGKILL here")
    program = """
import asyncio, os, signal, sys
from openaiasync import Client

async def main():
    async with Client(api_base=sys.argv[1], model="m", api_key="k") as client:
        session = client.chat.session()
        session.save(sys.argv[2])
        for number in range(3):
            await session.say(f"number {number}")
        async with session.stream("never said") as stream:
            async for piece in stream:
                if piece.text:
                    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    path = tmp_path / "a.jsonl"

    async def main() -> None:
        async with talking() as (client, server, _):
            command = [sys.executable, "-c", program, server.url, str(path)]
            done = await asyncio.to_thread(subprocess.run, command, timeout=50, check=False)
            assert done.returncode == -9
            session = client.chat.load_session(path, append=True)
            said = [message["content"] for message in session.messages if message["role"] == "user"]
            assert said == ["number 0", "number 1", "number 2"]
            await session.say("again")
            assert same(client.chat.load_session(path), session)

    run(main(), timeout=60)


def test_no_secret_is_in_the_file(tmp_path: Path) -> None:
    """Header fields of calls and the key stay out."""

    async def main() -> None:
        async with talking(api_key="sk-very-secret") as (client, _, _talker):
            session = client.chat.session(
                extra_headers={"Authorization": "Bearer other-secret"}, extra_body={"x": "third"}
            )
            await session.say("one")
            session.save(tmp_path / "a")
            await session.say("two")
            assert "secret" not in (tmp_path / "a").read_text()
            assert "third" not in (tmp_path / "a").read_text()
            for line in (tmp_path / "a").read_text().splitlines():
                json.loads(line)

    run(main())


def test_parameters_that_json_cannot_hold_are_told(tmp_path: Path) -> None:
    """When saving; nothing is written."""

    async def main() -> None:
        async with talking() as (client, _, _talker):
            session = client.chat.session(metadata={"x": object()})  # type: ignore[dict-item]
            with pytest.raises(SessionFileError, match="cannot be written as JSON"):
                session.save(tmp_path / "a")
            assert os.listdir(tmp_path) == []

    run(main())


def test_a_new_file_waits_for_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`save` runs in the event loop: it waits for the disk where `fsync` asks for it, or another file is replaced."""
    synced: list[int] = []
    plain = os.fsync

    def sync(descriptor: int) -> None:
        synced.append(descriptor)
        plain(descriptor)

    async def main() -> None:
        async with talking() as (client, _, _talker):
            session = client.chat.session()
            monkeypatch.setattr(os, "fsync", sync)
            session.save(tmp_path / "a")
            await session.say("one")
            (tmp_path / "a").unlink()
            await session.say("two")
            session.save(tmp_path / "a")
            session.close()
            assert not synced
            client.chat.session().save(tmp_path / "a")
            assert synced
            synced.clear()
            client.chat.session().save(tmp_path / "b", fsync=True)
            assert synced

    run(main())
