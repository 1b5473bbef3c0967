"""Whatever is done with sessions in whatever order: histories stay valid for the API, and files tell the same."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import run
from openaiasync import ChatSession, Client, OpenAIError
from openaiasync.chat.history import check_messages

from .talking import Talker, add, faults, talking, words

CUES = ["hello", "tool", "tools", "garbled tool", "long", "refuse", "surrogate"]
BAD = ["fail", "unknown tool fails"]
SAID = st.one_of(st.sampled_from(CUES), st.sampled_from(BAD))
STEPS = st.one_of(
    st.tuples(st.just("say"), SAID),
    st.tuples(st.just("stream"), st.one_of(SAID, st.just("cut"))),
    st.tuples(st.just("leave"), st.sampled_from(CUES)),
    st.tuples(st.just("cancel"), st.sampled_from(["wait", "wait tool"])),
    st.tuples(st.just("edit"), st.tuples(st.integers(0, 5), SAID)),
    st.tuples(st.just("undo"), st.integers(1, 2)),
    st.tuples(st.just("system"), st.sampled_from([None, "be kind", "be brief"])),
    st.tuples(st.just("fork"), st.none()),
    st.tuples(st.just("load"), st.booleans()),
)


class Model:
    """What a session should hold: its system prompt, and what the user said in each turn."""

    def __init__(self, system: str | None, said: list[str]) -> None:
        self.system = system
        self.said = said

    def check(self, session: ChatSession) -> None:
        messages = session.messages
        check_messages(messages)
        assert faults([*messages, {"role": "user", "content": "next"}]) == ""
        assert session.system == self.system
        assert [words(message["content"]) for message in messages if message["role"] == "user"] == self.said


class World:
    """Sessions, what they should hold, and the file that each writes to."""

    def __init__(self, client: Client, talker: Talker, folder: Path) -> None:
        self.client, self.talker, self.folder = client, talker, folder
        self.sessions: list[ChatSession] = []
        self.models: list[Model] = []
        self.add(client.chat.session(tools=[add]), Model(None, []))

    def add(self, session: ChatSession, model: Model) -> None:
        session.save(self.free())
        self.sessions.append(session)
        self.models.append(model)

    def free(self) -> Path:
        """A path that is not there yet."""
        return self.folder / f"{len(list(self.folder.iterdir()))}.jsonl"

    async def step(self, which: int, what: str, how: Any) -> None:
        place = which % len(self.sessions)
        session, model = self.sessions[place], self.models[place]
        if what in ("say", "stream"):
            if await self.turn(session, what, how):
                model.said.append(how)
        elif what == "edit":
            index, text = how
            if not model.said:
                return
            turn = index % len(model.said)
            users = [n for n, message in enumerate(session.messages) if message["role"] == "user"]
            if await self.turn(session, "edit", text, users[turn]):
                model.said[turn:] = [text]
        elif what == "leave":
            stream = session.stream(how)
            async for _ in stream:
                break
            else:  # an answer without a word has no piece to be left at
                model.said.append(how)
            await stream.close()
        elif what == "cancel":
            self.talker.waiting.clear()
            task = asyncio.create_task(session.say(how))
            await self.talker.waiting.wait()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert task.cancelled()
        elif what == "undo":
            if how <= len(model.said):
                session.undo(how)
                del model.said[len(model.said) - how :]
        elif what == "system":
            session.system = model.system = how
        elif what == "fork":
            self.add(session.fork(), Model(model.system, list(model.said)))
        else:
            path = session.path
            assert path is not None
            if how:
                session.close()
            self.sessions[place] = self.client.chat.load_session(path, append=how, tools=[add])
            if not how:
                self.sessions[place].save(self.free())

    async def turn(self, session: ChatSession, what: str, text: str, index: int = 0) -> bool:
        options: Any = {"on_tool_error": "raise"} if "fails" in text else {}
        try:
            if what == "say":
                await session.say(text, **options)
            elif what == "stream":
                await session.stream(text, **options).final()
            else:
                await session.edit(index, text, **options)
        except OpenAIError as error:
            failed = error
        else:
            return True
        assert text in ("fail", "cut", "unknown tool fails")
        assert failed.partial is not None
        return False

    def check(self) -> None:
        for session, model in zip(self.sessions, self.models, strict=True):
            model.check(session)
            assert session.path is not None
            loaded = self.client.chat.load_session(session.path, tools=[add])
            assert loaded.messages == session.messages
            assert loaded.usage == session.usage
            assert list(loaded._state.history.turns) == list(session._state.history.turns)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, 3), STEPS), max_size=14))
def test_histories_stay_valid_and_files_tell_the_same(steps: list[tuple[int, tuple[str, Any]]]) -> None:
    """Each session is what its finished turns make it, no fork sees another, and nobody sends what is refused."""

    async def main(folder: Path) -> None:
        async with talking() as (client, _, talker):
            world = World(client, talker, folder)
            for which, (what, how) in steps:
                await world.step(which, what, how)
                world.check()
            for session in world.sessions:
                session.close()

    with tempfile.TemporaryDirectory() as folder:
        run(main(Path(folder)))
