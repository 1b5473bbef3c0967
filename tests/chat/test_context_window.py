"""Room: what is sent of a history that is too long, by each policy; and what it may cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import run
from openaiasync import (
    APIError,
    BadRequestError,
    BudgetError,
    ConfigurationError,
    ContextLimitError,
    OpenAIError,
    Price,
)
from openaiasync.chat.context_window import MARK, ContextWindow, HistorySummary, PendingMessages, pieces, question
from openaiasync.chat.history import Turn, check_messages
from scripted import events, json_answer

from .talking import Talker, add, chat_answer, faults, reply_to, talking, tokens_of
from .talking import words as words_in


def words(text: str) -> int:
    return len(text.split())


def turn(number: int, tools: bool = False) -> Turn:
    user = {"role": "user", "content": f"question {number} of many"}
    said = {"role": "assistant", "content": f"answer {number} of many"}
    if not tools:
        return Turn((user, said))
    name = f"call_{number}"
    call = {"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    calls = {"role": "assistant", "content": None, "tool_calls": [call]}
    return Turn((user, calls, {"role": "tool", "tool_call_id": name, "content": "a result"}, said))


async def no_asking(messages: Any, most: int) -> str:
    raise AssertionError("nobody is to be asked")


class TestDropping:
    """The oldest turns stay behind, whole."""

    @settings(max_examples=60)
    @given(
        st.lists(st.booleans(), max_size=8),
        st.integers(1, 150),
        st.booleans(),
        st.sampled_from(["drop", "summarise", "refuse"]),
        st.integers(0, 30),
    )
    def test_what_is_sent_fits_and_is_valid(
        self, turns: list[bool], limit: int, system: bool, policy: Any, summary_words: int
    ) -> None:
        """By the tokenizer, for any history: a prefix of turns is gone, system prompt and last turn are there."""
        head = [{"role": "system", "content": "be kind"}] if system else []
        window = PendingMessages(
            head, [turn(n, tools) for n, tools in enumerate(turns)], [{"role": "user", "content": "and now"}]
        )
        room = ContextWindow(limit, policy, words)

        async def ask(messages: Any, most: int) -> str:
            assert faults(messages) == ""
            return "word " * min(most, summary_words)

        async def main() -> None:
            whole = window.messages()
            least = whole if policy == "refuse" else [*head, whole[-1]]
            if room.count(least, {}).tokens > limit:
                with pytest.raises(ContextLimitError) as caught:
                    await room.fit(window, {}, ask)
                assert caught.value.tokens > limit == caught.value.limit
                assert caught.value.source == "tokenizer"
                return
            sent = await room.fit(window, {}, ask)
            assert room.count(sent, {}).tokens <= limit
            assert faults(sent) == ""
            check_messages(sent)
            assert sent[: len(head)] == head
            assert sent[-1] == whole[-1]
            if room.summary is not None and MARK in str(sent):
                del sent[len(head) : len(head) + 2]
            kept = len(sent) - len(head)
            assert sent[len(head) :] == whole[len(whole) - kept :]
            if policy == "drop" and len(sent) < len(whole):
                gone = len(window.turns) - sum(message["role"] == "user" for message in sent) + 1
                assert room.count(window.messages(gone - 1), {}).tokens > limit  # as few as possible

        run(main())

    def test_the_answer_needs_room_too(self) -> None:
        """Where the request limits it; either name of the limit counts."""

        async def main() -> None:
            window = PendingMessages([], [turn(1)], [{"role": "user", "content": "x"}])
            total = ContextWindow(None, None, words).count(window.messages(), {}).tokens
            for name in ("max_tokens", "max_completion_tokens"):
                room = ContextWindow(total + 10, "drop", words)
                assert len(await room.fit(window, {name: 10}, no_asking)) == 3
                assert len(await room.fit(window, {name: 11}, no_asking)) == 1
                assert len(await room.fit(window, {name: None}, no_asking)) == 3

        run(main())

    def test_no_limit_sends_everything(self) -> None:
        """A policy alone only answers refusals of the server."""
        window = PendingMessages([], [turn(n) for n in range(99)], [{"role": "user", "content": "x"}])
        assert run(ContextWindow(None, "drop").fit(window, {}, no_asking)) == window.messages()
        assert ContextWindow(1000).policy == "drop"
        assert ContextWindow().policy is None


class TestRefusing:
    """Nothing is sent."""

    def test_the_error_says_who_counted_and_what_to_do(self) -> None:
        """Each count is named for what it is."""

        async def main() -> None:
            async with talking() as (client, server, _):
                session = client.chat.session(context_limit=40, policy="refuse")
                await session.say("one two three")
                with pytest.raises(
                    ContextLimitError, match=r"The conversation needs \d+ tokens; context_limit is 40"
                ) as e:
                    await session.say("word " * 60)
                assert (e.value.source, e.value.limit) == ("server", 40)
                with pytest.raises(ContextLimitError, match=r"tokens \(an estimate\)") as e:
                    await client.chat.session(context_limit=40).say("word " * 60)
                assert isinstance(e.value, (OpenAIError, ValueError))
                with pytest.raises(
                    ContextLimitError, match=r"tokens \(by the tokenizer\) and 10 for the answer; .*Shorten the message"
                ):
                    await (
                        client.chat.session(context_limit=40, tokenizer=words, max_tokens=10)
                        .stream("word " * 60)
                        .final()
                    )
                assert len(server.seen) == 1
                assert len(session.messages) == 2

        run(main())


class TestSessions:
    """Limits in conversations."""

    @pytest.mark.parametrize("streamed", [False, True])
    def test_the_history_keeps_what_is_not_sent(self, streamed: bool) -> None:
        """Only requests are trimmed; what was asked last is always there."""

        async def main() -> None:
            async with talking() as (client, server, _):
                session = client.chat.session(system="s", context_limit=60, tokenizer=words, tools=[add])
                for number in range(12):
                    said = f"{'tool' if number % 3 == 0 else 'question'} number {number}"
                    await (session.stream(said).final() if streamed else session.say(said))
                sent = [seen.json()["messages"] for seen in server.seen]
                assert max(map(tokens_of, sent)) <= 60
                assert all(messages[0]["content"] == "s" for messages in sent)
                assert len(sent[-1]) < len(session.messages) == 1 + 8 * 2 + 4 * 4
                assert session.summary is None

        run(main())

    def test_a_loop_of_tools_that_outgrows_the_room_is_stopped(self) -> None:
        """Each round is counted, and none is sent that does not fit."""

        def big(a: int, b: int) -> str:
            return "word " * 500

        async def main() -> None:
            async with talking() as (client, server, _):
                big.__name__ = "add"
                session = client.chat.session(context_limit=200, tokenizer=words, tools=[big])
                with pytest.raises(ContextLimitError, match="The system prompt and the last turn alone need") as caught:
                    await session.say("tool")
                assert len(server.seen) == 1
                assert len(caught.value.partial.tool_calls) == 1
                assert session.messages == []
                assert session.usage.requests == 1

        run(main())

    @pytest.mark.parametrize("streamed", [False, True])
    def test_summaries(self, streamed: bool) -> None:
        """The model is asked for one, its usage counts, later ones build on it; `messages` has all turns."""

        async def main() -> None:
            async with talking() as (client, server, _):
                session = client.chat.session(
                    system="s",
                    context_limit=250,
                    policy="summarise",
                    tokenizer=words,
                    extra_headers={"X-A": "1"},
                    seed=1,
                )
                for number in range(40):
                    said = f"question number {number}"
                    await (session.stream(said).final() if streamed else session.say(said))
                bodies = [seen.json() for seen in server.seen]
                asked = [body for body in bodies if "Summarise it" in str(body["messages"])]
                assert 2 <= len(asked) < 15
                assert all(body["max_completion_tokens"] == 32 and "seed" not in body for body in asked)
                assert all(seen.headers["x-a"] == "1" for seen in server.seen)
                assert "they greeted" in str(asked[1]["messages"])
                assert "question number 0" in str(asked[0]["messages"])
                last = bodies[-1]["messages"]
                assert last[0]["content"] == "s"
                assert last[2]["content"] == f"{MARK}\nthey greeted"
                assert session.summary == "they greeted"
                assert len(session.messages) == 81
                assert session.usage.requests == len(bodies)
                assert max(tokens_of(body["messages"]) for body in bodies) <= 250
                fork = session.fork()
                await fork.edit(1, "another beginning")
                assert (fork.summary, session.summary) == (None, "they greeted")
                session.undo(39)
                assert session.summary is None
                await session.say("again")
                assert "they greeted" not in str(server.seen[-1].json()["messages"])

        run(main())

    def test_a_summary_of_what_is_being_edited_is_not_sent(self) -> None:
        """It tells of turns that the edit takes back; it stays for when the edit fails."""

        async def ask(messages: Any, most: int) -> str:
            return "new"

        async def main() -> None:
            turns = [turn(number) for number in range(12)]
            room = ContextWindow(200, "summarise", words)
            room.summary = HistorySummary(10, "old")
            short, long = [{"role": "user", "content": "x"}], [{"role": "user", "content": "word " * 150}]
            assert (
                await room.fit(PendingMessages([], turns[:3], short), {}, ask)
                == PendingMessages([], turns[:3], short).messages()
            )
            assert room.summary.text == "old"
            sent = await room.fit(PendingMessages([], turns[:4], long), {}, ask)
            assert "old" not in str(sent)
            assert room.summary.text in ("old", "new")
            assert (
                "old" in str(await room.fit(PendingMessages([], turns, short), {}, ask)) or room.summary.text == "new"
            )

        run(main())

    def test_a_refused_summary_does_not_fail_the_turn(self) -> None:
        """The turns are dropped then, and the server is not asked for a summary with every turn from then on."""

        class Sulky(Talker):
            async def __call__(self, seen: Any, writer: Any) -> None:
                if b"Summarise it" in seen.body:
                    writer.write(json_answer({"error": {"message": "no"}}, 400))
                else:
                    await super().__call__(seen, writer)

        async def main() -> None:
            async with talking(kind=Sulky) as (client, server, _talker):
                session = client.chat.session(context_limit=250, policy="summarise", tokenizer=words)
                for number in range(14):
                    await session.say(f"question number {number}")
                assert (await session.say("word " * 40)).text.startswith("you said word")
                assert len(session.messages) == 30
                await session.say("word " * 40)
                assert session.summary is None
                assert sum(b"Summarise it" in seen.body for seen in server.seen) == 1
                assert len(server.seen[-1].json()["messages"]) < 31  # what was left out goes unsummarised

        run(main())


class TestRefusalsOfTheServer:
    """`context_length_exceeded`, found out from the server."""

    @pytest.mark.parametrize(("policy", "limit"), [("drop", 100), ("summarise", 100), ("summarise", 300)])
    @pytest.mark.parametrize("streamed", [False, True])
    def test_one_more_trim_and_try(self, policy: Any, limit: int, streamed: bool) -> None:
        """Without a limit of one's own; what was learned holds for later turns."""

        async def main() -> None:
            async with talking(limit=limit) as (client, server, _):
                session = client.chat.session(policy=policy, tokenizer=words)
                for number in range(24):
                    said = f"question number {number}"
                    await (session.stream(said).final() if streamed else session.say(said))
                assert len(session.messages) == 48
                refused = [seen for seen in server.seen if tokens_of(seen.json()["messages"]) > limit]
                assert 1 <= len(refused) <= 2
                # A context that is too small for a summary, too, is made do with.
                assert (session.summary is not None) == (limit == 300)

        run(main())

    def test_what_cannot_be_trimmed_is_the_servers_error(self) -> None:
        """One try, and no second of the same; without a policy, or with "refuse", it is never trimmed."""

        async def main() -> None:
            async with talking(limit=20) as (client, server, _):
                for policy in ("drop", "summarise", "refuse", None):
                    session = client.chat.session(policy=policy)
                    await session.say("one")
                    with pytest.raises(BadRequestError) as caught:
                        await session.say("word " * 50)
                    assert caught.value.code == "context_length_exceeded"
                    if policy in ("refuse", None):
                        with pytest.raises(BadRequestError):
                            await session.say("word " * 10)
                assert len(server.seen) == 10

        run(main())

    def test_llamacpps_numbers_are_believed(self) -> None:
        """It says how many tokens there were and how many there may be."""

        class Llama(Talker):
            async def __call__(self, seen: Any, writer: Any) -> None:
                count = tokens_of(seen.json()["messages"]) * 3
                if count < 200:
                    message, finish = reply_to(seen.json()["messages"])
                    answer = chat_answer(seen, message, finish)
                    writer.write(json_answer({**answer, "usage": {"prompt_tokens": count, "completion_tokens": 15}}))
                    return
                error = {"code": 400, "message": "too long", "type": "exceed_context_size_error"}
                writer.write(json_answer({"error": {**error, "n_prompt_tokens": count, "n_ctx": 200}}, 400))

        async def main() -> None:
            async with talking(kind=Llama) as (client, server, _):
                session = client.chat.session(policy="drop")
                for number in range(10):
                    await session.say(f"question number {number}")
                assert len(session.messages) == 20
                refused = [seen for seen in server.seen if tokens_of(seen.json()["messages"]) * 3 >= 200]
                assert len(refused) <= 3

        run(main())

    def test_a_server_that_contradicts_itself_is_not_asked_twice_the_same(self) -> None:
        """It refuses what by its own numbers fits: the error is its own, after one request."""

        class Liar(Talker):
            async def __call__(self, seen: Any, writer: Any) -> None:
                if len(seen.json()["messages"]) < 5:
                    await super().__call__(seen, writer)
                    return
                error = {"code": 400, "message": "too long", "type": "exceed_context_size_error"}
                writer.write(json_answer({"error": {**error, "n_prompt_tokens": 10, "n_ctx": 100_000}}, 400))

        async def main() -> None:
            async with talking(kind=Liar) as (client, server, _):
                session = client.chat.session(policy="drop")
                await session.say("one")
                await session.say("two")
                with pytest.raises(BadRequestError):
                    await session.say("three")
                assert len(server.seen) == 3

        run(main())

    def test_a_summary_that_is_too_long_to_ask_for_is_made_do_without(self) -> None:
        """The server's tokens are not ours: the turns are dropped then, and the talk goes on."""

        class Narrow(Talker):
            async def __call__(self, seen: Any, writer: Any) -> None:
                if b"Summarise it" in seen.body:
                    error = {"message": "too long", "code": "context_length_exceeded"}
                    writer.write(json_answer({"error": error}, 400))
                else:
                    await super().__call__(seen, writer)

        async def main() -> None:
            async with talking(kind=Narrow) as (client, server, _):
                session = client.chat.session(policy="summarise", context_limit=250, tokenizer=words)
                for number in range(20):
                    await session.say(f"question number {number}")
                assert len(session.messages) == 40
                assert session.summary is None
                assert any(b"Summarise it" in seen.body for seen in server.seen)
                assert tokens_of(server.seen[-1].json()["messages"]) <= 250

        run(main())


class LetterTalker(Talker):
    """Counts `rate` tokens a letter, and refuses with vLLM's words more than `context` of them."""

    rate = 1.0
    context = 4000
    usage = True

    def count(self, messages: Any) -> int:
        return round(sum(12 + self.rate * len(words_in(message.get("content"))) for message in messages))

    async def __call__(self, seen: Any, writer: Any) -> None:
        sent = seen.json()
        prompt, answer = self.count(sent["messages"]), sent.get("max_completion_tokens") or 0
        if prompt + answer > self.context:
            text = (
                f"This model's maximum context length is {self.context} tokens. However, you requested {answer} output "
                f"tokens and your prompt contains at least {prompt} input tokens, for a total of at least "
                f"{prompt + answer} tokens. Please reduce the length of the input prompt or the number of requested "
                "output tokens."
            )
            error = {"message": text, "type": "BadRequestError", "param": "input_tokens", "code": 400}
            writer.write(json_answer({"error": error}, 400))
            return
        message, finish = reply_to(sent["messages"])
        made = chat_answer(seen, message, finish)
        counted = {"prompt_tokens": prompt, "completion_tokens": self.count([message])}
        writer.write(json_answer({**made, "usage": counted if self.usage else None}))


class TestScales:
    """A server's tokens are not ours: all that is compared is on one scale."""

    @pytest.mark.parametrize("rate", [0.25, 0.75, 1.0, 1.5])
    @pytest.mark.parametrize("limit", [None, 4000])
    @pytest.mark.parametrize("usage", [True, False])
    def test_summaries_are_made(self, rate: float, limit: int | None, usage: bool) -> None:
        """From a few tokens a letter to several; with a limit given or learned, and few requests are refused."""

        async def main() -> None:
            talker = type("Rated", (LetterTalker,), {"rate": rate, "usage": usage})
            async with talking(kind=talker) as (client, server, _):
                session = client.chat.session(context_limit=limit, policy="summarise")
                count = round(60 / rate)
                for number in range(count):
                    await session.say(f"{number}: " + "why is that so? " * 10)
                assert session.summary == "they greeted"
                assert len(session.messages) == 2 * count
                refused = [one for one in server.seen if talker(None).count(one.json()["messages"]) > 4000]
                assert len(refused) <= 3

        run(main())

    def test_a_refusal_without_numbers_is_trimmed_until_it_fits(self) -> None:
        """Where only the limit is known, or not even that, each guess is lower than the one before."""

        class Vague(LetterTalker):
            async def __call__(self, seen: Any, writer: Any) -> None:
                if self.count(seen.json()["messages"]) > 3000:
                    text = (
                        "This model's maximum context length is 3000 tokens" if self.limit else "the prompt is too long"
                    )
                    writer.write(json_answer({"error": {"message": text}}, 500))
                else:
                    message, finish = reply_to(seen.json()["messages"])
                    writer.write(json_answer({**chat_answer(seen, message, finish), "usage": None}))

        async def main() -> None:
            for told in (None, 1):
                async with talking(told, kind=Vague) as (client, server, _):
                    session = client.chat.session(policy="drop")
                    for number in range(30):
                        await session.say(f"{number}: " + "why is that so? " * 10)
                    assert len(session.messages) == 60
                    refused = [one for one in server.seen if Vague().count(one.json()["messages"]) > 3000]
                    assert len(refused) <= 6

        run(main())

    @pytest.mark.parametrize(
        "text", ["Context size has been exceeded.", "the model's context length is only 3000 tokens"]
    )
    def test_a_stream_that_is_refused_when_it_has_begun(self, text: str) -> None:
        """LM Studio answers 200 before it looks: the turn goes on with less, and shows nothing of it."""

        class Late(LetterTalker):
            async def __call__(self, seen: Any, writer: Any) -> None:
                if self.count(seen.json()["messages"]) > 3000:
                    writer.write(events([{"error": {"message": text}}], done=False))
                else:
                    await Talker.__call__(self, seen, writer)

        async def main() -> None:
            async with talking(kind=Late) as (client, _, _talker):
                # This server's usage is in words, its limit in letters.
                session = client.chat.session(policy="drop", stream_options={"include_usage": False})
                for number in range(30):
                    said = f"{number}: " + "why is that so? " * 10
                    assert (await session.stream(said).final()).text.strip() == f"you said {said}".strip()
                assert len(session.messages) == 60
                assert session.left_out > 0
                plain = client.chat.session(messages=session.messages)
                with pytest.raises(APIError):
                    await plain.stream("x").final()

        run(main())


TEXTS = Path(__file__).parent.parent / "core" / "context_overflows.txt"


def bodies(text: str) -> list[Any]:
    """An error in the shapes that servers give it."""
    inner = {"message": text, "type": "BadRequestError", "param": "input_tokens", "code": 400}
    wrapped = {"message": "Provider returned error", "code": 400, "metadata": {"raw": json.dumps({"error": inner})}}
    return [{"error": inner}, {"error": text}, {"object": "error", **inner}, {"detail": text}, {"error": wrapped}]


@pytest.mark.parametrize("streamed", [False, True])
def test_a_session_understands_every_server(streamed: bool) -> None:
    """Each literal text, in each shape, over a socket: the turn goes on with less, and never loses anything."""
    lines = [line.split(" | ", 2)[2] for line in TEXTS.read_text("utf-8").splitlines() if not line.startswith("#")]
    # In the first of these the answer alone is too long, in the other one the last turn would be.
    never = ("4100 for the completion", "1000008")
    cases = [(text, shape) for text in lines if not any(part in text for part in never) for shape in range(5)]
    case = [0]

    class Refusing(Talker):
        async def __call__(self, seen: Any, writer: Any) -> None:
            if len(seen.json()["messages"]) > 5:
                text, shape = cases[case[0]]
                writer.write(json_answer(bodies(text)[shape], (400, 413, 422, 500)[case[0] % 4]))
            else:
                await super().__call__(seen, writer)

    async def main() -> None:
        said = [{"role": "user" if n % 2 == 0 else "assistant", "content": "word " * 40} for n in range(6)]
        async with talking(kind=Refusing) as (client, _, _talker):
            for number, _ in enumerate(cases):
                case[0] = number
                session = client.chat.session(policy="drop", messages=said)
                reply = await (session.stream("word " * 40).final() if streamed else session.say("word " * 40))
                assert reply.text.startswith("you said word"), cases[number]
                assert len(session.messages) == 8
                assert session.left_out >= 1

    run(main(), 60)


class TestBudgets:
    """Money."""

    def test_usage_and_cost(self) -> None:
        """Answers are counted in whole and streamed turns, in turns that fail after a round of tools, and in forks."""

        async def main() -> None:
            async with talking() as (client, _, _talker):
                session = client.chat.session(prices={"m": (1.0, 10.0)}, tools=[add])
                await session.say("one two")  # 6 and 5
                assert (session.usage.prompt_tokens, session.usage.completion_tokens) == (6, 5)
                assert session.usage.cost == pytest.approx((6 + 50) / 1e6)
                # No usage in this stream, as the caller wishes: an estimate.
                await session.stream("three", tools=[], stream_options={"include_usage": False}).final()
                assert session.usage.requests == 2
                assert session.usage.estimated == 1
                with pytest.raises(OpenAIError):
                    await session.say("unknown tool", on_tool_error="raise")
                assert session.usage.requests == 3
                await session.stream("four").final()
                assert (session.usage.requests, session.usage.estimated) == (4, 1)
                async with session.stream("five") as stream:
                    async for piece in stream:
                        if piece.text:
                            break
                assert (session.usage.requests, session.usage.estimated) == (5, 2)

        run(main())

    @pytest.mark.parametrize("streamed", [False, True])
    def test_a_budget_stops_before_the_call(self, streamed: bool) -> None:
        """The history stays; a larger turn limit for the answer counts at its most."""

        async def main() -> None:
            async with talking() as (client, server, _):
                session = client.chat.session(prices=Price(1e6, 1e6), budget=40, tokenizer=words, max_tokens=5)

                async def say(text: str, **params: Any) -> Any:
                    return await (session.stream(text, **params).final() if streamed else session.say(text, **params))

                await say("one")  # 5 and 5
                with pytest.raises(BudgetError) as caught:
                    await say("two", max_tokens=30)
                assert caught.value.budget == 40
                await say("two")
                with pytest.raises(BudgetError):
                    await say("three")
                assert len(server.seen) == 2
                assert session.usage.cost is not None
                assert session.usage.cost <= 40

        run(main())

    @pytest.mark.parametrize("refused", [False, True])
    def test_summaries_are_within_the_budget(self, refused: bool) -> None:
        """One that would pass it is not asked for; nor, after one, the request that it was made for."""

        async def main() -> None:
            async with talking(limit=300 if refused else None) as (client, server, _):
                limit = None if refused else 300

                async def talk(budget: float | None) -> tuple[list[int], bool]:
                    """Talk until there is a summary: tokens of the requests sent, and whether the budget stopped it."""
                    session = client.chat.session(
                        prices=Price(1e6, 1e6), budget=budget, policy="summarise", tokenizer=words, context_limit=limit
                    )
                    before = len(server.seen)
                    stopped = False
                    while session.summary is None and not stopped:
                        try:
                            await session.say("question")
                        except BudgetError:
                            stopped = True
                    return [tokens_of(seen.json()["messages"]) for seen in server.seen[before:]], stopped

                sent, stopped = await talk(None)
                assert not stopped
                answered = [tokens for tokens in sent if tokens <= 300]
                up_to_last = sum(answered) + 5 * (len(answered) - 1)
                assert await talk(up_to_last - 10) == (sent[:-1], True)
                if not refused:
                    assert await talk(up_to_last - answered[-1] - 10) == (sent[:-2], True)

        run(main())

    def test_a_model_without_a_price_is_told(self) -> None:
        """Before anything is sent."""

        async def main() -> None:
            async with talking() as (client, server, _):
                session = client.chat.session(prices={"x": (1, 1)}, budget=1)
                with pytest.raises(ConfigurationError, match="no price for 'm' in prices"):
                    await session.say("one")
                await session.say("one", model="x")
                assert len(server.seen) == 1

        run(main())


class TestSummaryTexts:
    """What the model is given to summarise."""

    def test_everything_said_is_in_it(self) -> None:
        """Calls, results and refusals are included; parts other than text are named."""
        messages = [
            *turn(1, tools=True).messages,
            {"role": "user", "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {}}]},
            {"role": "assistant", "refusal": "no"},
        ]
        (text,) = pieces(messages, 1000, words)
        assert text.splitlines() == [
            "user: question 1 of many",
            "assistant: (calls f: {})",
            "tool: a result",
            "assistant: answer 1 of many",
            "user: see (image_url)",
            "assistant: no",
        ]
        (asked,) = question("before", text)
        assert "Summary of the conversation before:\nbefore\n" in asked["content"]
        assert asked["content"].endswith(text)

    def test_long_conversations_come_in_pieces_and_long_messages_are_cut(self) -> None:
        """Each piece fits; the ends of a message say most."""
        messages = [{"role": "user", "content": f"number {n}"} for n in range(100)]
        messages[50]["content"] = "begin " + "word " * 2000 + "end"
        made = list(pieces(messages, 200, words))
        assert len(made) > 2
        assert all(words(piece) <= 200 for piece in made)
        assert all(f"number {n}\n" in "\n".join([*made, ""]) for n in range(100) if n != 50)
        assert "begin" in str(made)
        assert "end" in str(made)

    def test_a_summary_that_a_server_let_grow_is_cut(self) -> None:
        """It may not take the room that it was made for."""
        question, answer = HistorySummary(3, "x" * 100_000, 32).messages()
        assert question["role"] == "user"
        assert len(answer["content"]) < 400
