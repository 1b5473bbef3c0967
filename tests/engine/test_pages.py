"""Pages: every item once, the next page asked for when needed, a lying server cannot make it endless."""

from __future__ import annotations

import json
from typing import Any

import pytest

from conftest import run
from openaiasync import Client
from openaiasync.core.codec.endpoint import Endpoint
from openaiasync.engine.config import BaseURL, CallConfig
from openaiasync.engine.engine import Engine
from openaiasync.engine.pagination import PageInfo, Paginator
from openaiasync.engine.upstream import Connections
from openaiasync.transport.fake import FakeAnswer, FakeTransport


def pages_of(kind: str, answers: list[dict[str, Any]]) -> tuple[Paginator[Any, Any], FakeTransport]:
    """A list operation whose server gives these answers one after another."""
    left = iter(answers)
    transport = FakeTransport(lambda request: FakeAnswer(json=next(left)))
    calls = Engine(CallConfig(base=BaseURL("http://host/v1")), Connections(None, lambda: transport))
    row = Endpoint(
        "things.list",
        "GET",
        "/things",
        optional="after page limit",
        query="after page limit",
        codec="page",
        type="core.model.base:OpenModel",
        page=kind,
    )
    return Paginator(calls, row, {"limit": 2}), transport


def items(*ids: Any) -> list[dict[str, Any]]:
    return [{"id": one} for one in ids]


@pytest.mark.parametrize(
    ("kind", "answers", "targets"),
    [
        ("Page", [{"data": items("a", "b"), "has_more": True}], ["limit=2"]),
        (
            "CursorPage",
            [{"data": items("a", "b"), "has_more": True}, {"data": items("c"), "has_more": False}],
            ["limit=2", "limit=2&after=b"],
        ),
        ("CursorPage", [{"data": items("a")}, {"data": []}], ["limit=2", "limit=2&after=a"]),
        (
            "ConversationCursorPage",
            [{"data": items("a"), "has_more": True, "last_id": "x y"}, {"data": items("b"), "has_more": False}],
            ["limit=2", "limit=2&after=x%20y"],
        ),
        (
            "NextCursorPage",
            [{"data": items("a"), "next": "n1", "has_more": True}, {"data": items("b"), "next": None}],
            ["limit=2", "limit=2&after=n1"],
        ),
        (
            "TokenPage",
            [{"data": items("a"), "next": "n1"}, {"data": items("b"), "has_more": False}],
            ["limit=2", "limit=2&page=n1"],
        ),
    ],
)
def test_every_item_of_every_page(kind: str, answers: list[dict[str, Any]], targets: list[str]) -> None:
    """Iterating asks for page after page, by the rule of its kind, and gives each item once."""

    async def main() -> None:
        pages, transport = pages_of(kind, answers)
        seen = [item.id async for item in pages]
        assert seen == [item["id"] for answer in answers for item in answer["data"]]
        assert [request.url.partition("?")[2] for request in transport.requests] == targets

    run(main())


def test_one_page_by_hand() -> None:
    """Awaited it is the first page, which tells whether and how to go on."""

    async def main() -> None:
        pages, _ = pages_of(
            "CursorPage", [{"data": items("a"), "has_more": True}, {"data": items("b"), "has_more": False}]
        )
        page = await pages
        assert page.has_next_page()
        assert page.next_page_info() == PageInfo({"after": "a"})
        last = await page.get_next_page()
        assert [item.id for item in last.data] == ["b"]
        assert not last.has_next_page()
        assert last.next_page_info() is None
        with pytest.raises(RuntimeError, match="no next page"):
            await last.get_next_page()
        assert page.meta.status == 200
        assert json.loads(page.to_json()) == {"data": [{"id": "a"}], "has_more": True}

    run(main())


def test_a_server_that_turns_in_circles() -> None:
    """The same successor named twice ends the iteration instead of going on for ever."""

    async def main() -> None:
        pages, transport = pages_of("CursorPage", [{"data": items("a"), "has_more": True}] * 10)
        assert [item.id async for item in pages] == ["a", "a"]
        assert len(transport.requests) == 2

    run(main())


def test_a_wrong_parameter_is_refused_at_once() -> None:
    """Before it is awaited."""
    with pytest.raises(TypeError, match="'limits'; did you mean 'limit'"):
        Client(api_base="http://localhost:1").chat.completions.list(limits=3)  # type: ignore[call-arg]
