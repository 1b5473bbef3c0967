"""Completions kept with ``store: true``: found, paged, relabelled, deleted, over a real socket."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import run
from openaiasync.core.codec.decode import decoder_for
from openaiasync.demo import demo_app
from openaiasync.endpoints import ENDPOINTS
from openaiasync.server import serve
from openaiasync.server.store import CompletionStore

from .wire import Wire

PATH = "/v1/chat/completions"


def strict(name: str) -> Any:
    row = ENDPOINTS[name]
    return decoder_for(row.load(row.type), strict=True)


async def create(wire: Wire, number: int, **more: Any) -> str:
    """Store a completion; its id."""
    body = {
        "model": "demo-chat",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": f"say {number}"}],
        "store": True,
        "metadata": {"parity": "even" if number % 2 == 0 else "odd"},
        **more,
    }
    answer = await wire.call("POST", PATH, body)
    assert answer.status == 200
    return str(answer.events()[0]["id"] if more.get("stream") else answer.json()["id"])


def test_the_life_of_a_completion() -> None:
    """Created, looked up, relabelled, its messages listed, deleted; then 404 everywhere."""

    async def main() -> None:
        async with serve(demo_app()) as server, Wire(server) as wire:
            id = await create(wire, 1)
            answer = await wire.call("GET", f"{PATH}/{id}")
            strict("chat.completions.retrieve").decode(answer.body)
            assert answer.json()["choices"][0]["message"]["content"] == "1"
            assert answer.json()["metadata"] == {"parity": "odd"}
            answer = await wire.call("POST", f"{PATH}/{id}", {"metadata": {"a": "b"}})
            assert answer.json()["metadata"] == {"a": "b"}
            assert (await wire.call("GET", f"{PATH}/{id}")).json()["metadata"] == {"a": "b"}
            messages = (await wire.call("GET", f"{PATH}/{id}/messages")).json()
            assert [message["content"] for message in messages["data"]] == ["Be brief.", "say 1"]
            assert [message["id"] for message in messages["data"]] == [f"{id}-0", f"{id}-1"]
            answer = await wire.call("DELETE", f"{PATH}/{id}")
            strict("chat.completions.delete").decode(answer.body)
            assert answer.json() == {"object": "chat.completion.deleted", "id": id, "deleted": True}
            for method, path, body in (
                ("GET", f"{PATH}/{id}", None),
                ("DELETE", f"{PATH}/{id}", None),
                ("POST", f"{PATH}/{id}", {"metadata": {}}),
                ("GET", f"{PATH}/{id}/messages", None),
            ):
                assert (await wire.call(method, path, body)).status == 404

    run(main())


def test_only_what_was_asked_to_be_stored() -> None:
    """Also streams, once they are complete; their metadata too."""

    async def main() -> None:
        async with serve(demo_app()) as server, Wire(server) as wire:
            await create(wire, 1, store=False)
            await create(wire, 2, store=None)
            streamed = await create(wire, 3, stream=True)
            listed = (await wire.call("GET", PATH)).json()
            assert [item["id"] for item in listed["data"]] == [streamed]
            assert listed["data"][0]["choices"][0]["message"]["content"] == "3"

    run(main())


def test_pages() -> None:
    """By cursor, in both orders, filtered by model and metadata."""

    async def main() -> None:
        async with serve(demo_app()) as server, Wire(server) as wire:

            async def page(query: str) -> Any:
                answer = await wire.call("GET", f"{PATH}?{query}")
                assert answer.status == 200, answer.body
                return answer.json()

            assert await page("") == {
                "object": "list",
                "data": [],
                "first_id": None,
                "last_id": None,
                "has_more": False,
            }
            ids = [await create(wire, number) for number in range(7)]
            first = await page("limit=3")
            assert [item["id"] for item in first["data"]] == ids[:3]
            assert (first["first_id"], first["last_id"], first["has_more"]) == (ids[0], ids[2], True)
            second = await page(f"limit=4&after={first['last_id']}")
            assert [item["id"] for item in second["data"]] == ids[3:]
            assert not second["has_more"]
            assert (await page(f"after={ids[-1]}"))["data"] == []
            backwards = await page(f"order=desc&limit=2&after={ids[5]}")
            assert [item["id"] for item in backwards["data"]] == [ids[4], ids[3]]
            even = await page("metadata%5Bparity%5D=even&model=demo-chat")
            assert [item["id"] for item in even["data"]] == ids[::2]
            assert (await page("metadata[parity]=none"))["data"] == []
            assert (await page("model=other"))["data"] == []
            messages = await wire.call("GET", f"{PATH}/{ids[0]}/messages?limit=1&order=desc")
            assert messages.json()["data"][0]["content"] == "say 0"
            assert messages.json()["has_more"]

    run(main())


@pytest.mark.parametrize(
    ("query", "param"), [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("limit=%C2%B2", "limit"),
                         ("order=up", "order"), ("after=nobody", "after")],
)  # fmt: skip
def test_wrong_queries(query: str, param: str) -> None:
    async def main() -> None:
        async with serve(demo_app()) as server, Wire(server) as wire:
            answer = await wire.call("GET", f"{PATH}?{query}")
            assert (answer.status, answer.error()["param"]) == (400, param)

    run(main())


@pytest.mark.parametrize(
    ("body", "param"), [({}, "metadata"), ({"metadata": 5}, "metadata"), ({"metadata": {"a": 1}}, "metadata.a")]
)
def test_wrong_metadata(body: dict[str, Any], param: str) -> None:
    async def main() -> None:
        async with serve(demo_app()) as server, Wire(server) as wire:
            id = await create(wire, 1)
            answer = await wire.call("POST", f"{PATH}/{id}", body)
            assert (answer.status, answer.error()["param"]) == (400, param)

    run(main())


def test_the_oldest_is_forgotten() -> None:
    """A server that runs for long does not grow without end."""
    store = CompletionStore(capacity=2)
    for number in range(4):
        store.keep({"id": str(number), "model": "m", "metadata": {}}, [])
    assert [item["id"] for item in store.find([])] == ["2", "3"]


def test_messages_in_parts() -> None:
    """Their parts are told apart from their text, as the API does."""
    store = CompletionStore()
    parts = [{"type": "text", "text": "x"}]
    store.keep({"id": "c", "model": "m", "metadata": {}}, [{"role": "user", "content": parts}])
    assert store.messages("c") == [{"role": "user", "content": None, "content_parts": parts, "id": "c-0"}]


def test_what_is_kept_has_an_end_in_bytes() -> None:
    """The oldest make room, by number and by size; what never fits is not kept."""

    def completion(id: str, size: int) -> dict[str, Any]:
        return {"id": id, "model": "m", "metadata": {}, "text": "x" * size}

    store = CompletionStore(capacity=5, max_all=10_000)
    for number in range(20):
        store.keep(completion(str(number), 3_000), [])
        assert len(store.find([])) <= 3
    assert [one["id"] for one in store.find([])] == ["17", "18", "19"]
    store.keep(completion("huge", 20_000), [])
    assert [one["id"] for one in store.find([])] == ["17", "18", "19"]
    store.relabel("19", {"a": "y" * 100})
    for number in range(17, 20):
        store.delete(str(number))
    assert store._size == 0
    for number in range(20):
        store.keep(completion(f"small{number}", 10), [])
    assert len(store.find([])) == 5
