"""instructor over the bridge, and over our own client where it takes one."""

from __future__ import annotations

import json
from typing import Any

import pytest

instructor = pytest.importorskip("instructor")

import openai  # noqa: E402
from instructor.core import InstructorRetryException  # noqa: E402
from pydantic import BaseModel  # noqa: E402

from conftest import run  # noqa: E402
from openaiasync import IncompleteStreamError, RateLimitError  # noqa: E402

from .bridged import official, ours  # noqa: E402
from .replies import Reply  # noqa: E402

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("default")]

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "which city?"}]}
PARIS = {"name": "Paris", "people": 2_000_000}


class City(BaseModel):
    """What is asked for."""

    name: str
    people: int


BY_TOOL = Reply(tool="City", arguments=PARIS)
BY_TEXT = Reply(json.dumps(PARIS))
MODES = [(instructor.Mode.TOOLS, BY_TOOL), (instructor.Mode.JSON_SCHEMA, BY_TEXT), (instructor.Mode.JSON, BY_TEXT)]


def test_plain() -> None:
    """Without a response model the official answer comes out."""

    async def main() -> None:
        async with official(Reply("Hello there.")) as (_, client, _):
            answer = await instructor.from_openai(client).create(response_model=None, **ASK)
            assert isinstance(answer, openai.types.chat.ChatCompletion)
            assert answer.choices[0].message.content == "Hello there."

    run(main())


@pytest.mark.parametrize(("mode", "reply"), MODES)
def test_structured_output(mode: Any, reply: Reply) -> None:
    """An answer becomes an object: by a tool, by a schema, by JSON."""

    async def main() -> None:
        async with official(reply) as (_, client, _):
            made = await instructor.from_openai(client, mode=mode).create(response_model=City, **ASK)
            assert isinstance(made, City)
            assert made.model_dump() == PARIS

    run(main())


def test_responses() -> None:
    """The same over the interface of responses."""

    async def main() -> None:
        async with official(BY_TOOL) as (server, client, _):
            one = instructor.from_openai(client, mode=instructor.Mode.RESPONSES_TOOLS)
            assert (await one.create(response_model=City, **ASK)).model_dump() == PARIS
            assert server.requests[0].target.endswith("/responses")

    run(main())


def test_an_answer_that_does_not_fit_is_asked_for_again() -> None:
    """The framework's own repair goes through the bridge too."""

    async def main() -> None:
        wrong = Reply(tool="City", arguments={"name": "Paris", "people": "many"})
        async with official(wrong, BY_TOOL) as (server, client, _):
            made = await instructor.from_openai(client).create(response_model=City, max_retries=2, **ASK)
            assert (made.model_dump(), len(server.requests)) == (PARIS, 2)

    run(main())


@pytest.mark.parametrize(("mode", "reply"), MODES[:2])
def test_streaming(mode: Any, reply: Reply) -> None:
    """A streamed object fills up until it is whole."""

    async def main() -> None:
        async with official(reply) as (_, client, _):
            stream = instructor.from_openai(client, mode=mode).create_partial(response_model=City, **ASK)
            states = [one async for one in stream]
            assert len(states) > 2
            assert states[-1].model_dump() == PARIS

    run(main())


def test_a_429() -> None:
    """A 429 that stays ends in the framework's error with the official one in it; one that goes away is not seen."""

    async def main() -> None:
        async with official(Reply(status=429)) as (server, client, _):
            with pytest.raises(InstructorRetryException, match="slow down"):
                await instructor.from_openai(client).create(response_model=City, max_retries=1, **ASK)
            assert len(server.requests) == 3
        async with official(Reply(status=429), BY_TOOL) as (_, client, _):
            made = await instructor.from_openai(client).create(response_model=City, **ASK)
            assert made.model_dump() == PARIS

    run(main())


def test_a_cut_stream() -> None:
    """A stream that breaks off raises instead of leaving half an object."""

    async def main() -> None:
        async with official(BY_TEXT._replace(cut=True)) as (_, client, _):
            made = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
            with pytest.raises(openai.APIConnectionError):
                async for _ in made.create_partial(response_model=City, **ASK):
                    pass

    run(main())


@pytest.mark.parametrize(("mode", "reply"), MODES)
def test_our_own_client(mode: Any, reply: Reply) -> None:
    """`instructor.patch(create=...)` takes our method as it is, for whole answers and for streams."""

    async def main() -> None:
        async with ours(reply) as (_, client):
            create = instructor.patch(create=client.chat.completions.create, mode=mode)
            assert (await create(response_model=City, **ASK)).model_dump() == PARIS
            stream = await create(response_model=instructor.Partial[City], stream=True, **ASK)
            states = [one async for one in stream]
            assert states[-1].model_dump() == PARIS

    run(main())


def test_our_own_client_fails_with_our_own_errors() -> None:
    """A cut stream is our IncompleteStreamError, a 429 our RateLimitError within the framework's."""

    async def main() -> None:
        async with ours(BY_TEXT._replace(cut=True)) as (_, client):
            create = instructor.patch(create=client.chat.completions.create, mode=instructor.Mode.JSON_SCHEMA)
            with pytest.raises(IncompleteStreamError):
                async for _ in await create(response_model=instructor.Partial[City], stream=True, **ASK):
                    pass
        async with ours(Reply(status=429)) as (_, client):
            create = instructor.patch(create=client.chat.completions.create)
            with pytest.raises(InstructorRetryException) as caught:
                await create(response_model=City, max_retries=1, **ASK)
            chain: list[BaseException | None] = [caught.value]
            while chain[-1] is not None:
                chain.append(chain[-1].__cause__ or chain[-1].__context__)
            assert any(isinstance(one, RateLimitError) for one in chain)

    run(main())
