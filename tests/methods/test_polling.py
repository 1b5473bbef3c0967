"""Waiting for objects: whose statuses end it, how long the pauses are, and what ends it before its time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

import openaiasync
from conftest import run
from openaiasync import AsyncOpenAI
from scripted import Scripted, Seen, json_answer, scripted

STORE_FILE = {"id": "file-1", "object": "vector_store.file", "vector_store_id": "vs-1", "created_at": 1}
FAST = 1  # milliseconds between two looks


class Server(NamedTuple):
    """A server whose objects go through `statuses`, one a look, and stay at the last."""

    client: AsyncOpenAI
    server: Scripted
    fields: dict[str, str]  # header fields of its answers

    def looks(self) -> list[Seen]:
        return [seen for seen in self.server.seen if seen.method == "GET"]


@asynccontextmanager
async def serving(*statuses: Any, **options: Any) -> AsyncIterator[Server]:
    left = list(statuses)
    fields: dict[str, str] = {}

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        status: Any = "in_progress"
        if seen.method == "GET":
            status = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(status, int):
            writer.write(json_answer({"error": {"message": "m"}}, status))
            return
        count = sum(one.target == "/v1/files" for one in server.seen)
        found = f"file-{count}" if seen.target == "/v1/files" else "obj-1"
        writer.write(json_answer({**STORE_FILE, "id": found, "status": status, "n": len(server.seen)}, **fields))

    async with scripted(script) as server:
        async with AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0, **options) as client:
            yield Server(client, server, fields)


Poll = Callable[[AsyncOpenAI], Any]
POLLS: dict[str, tuple[Poll, str, list[str]]] = {
    "files": (
        lambda c: c.files.wait_for_processing("f", poll_interval=0.001),
        "uploaded",
        ["processed", "error", "deleted"],
    ),
    "vector store files": (
        lambda c: c.vector_stores.files.poll("f", vector_store_id="vs", poll_interval_ms=FAST),
        "in_progress",
        ["completed", "failed", "cancelled"],
    ),
    "file batches": (
        lambda c: c.vector_stores.file_batches.poll("b", vector_store_id="vs", poll_interval_ms=FAST),
        "in_progress",
        ["completed", "failed", "cancelled"],
    ),
    "videos": (lambda c: c.videos.poll("v", poll_interval_ms=FAST), "queued", ["completed", "failed"]),
}


@pytest.mark.parametrize("what", POLLS)
def test_it_ends_with_the_work(what: str) -> None:
    """It asks while the object is under way, and gives it in whatever state that ended, failures included."""
    poll, waits, ends = POLLS[what]

    async def main() -> None:
        for end in ends:
            async with serving(waits, waits, end) as at:
                found = await poll(at.client)
                assert (found.status, found.n) == (end, 3)
                assert found.meta.status == 200
                assert len(at.looks()) == 3
                assert all(one.headers["x-stainless-poll-helper"] == "true" for one in at.looks())

    run(main())


CREATES: dict[str, tuple[Poll, list[tuple[str, str]]]] = {
    "a file": (
        lambda c: c.vector_stores.files.create_and_poll("f", vector_store_id="vs", attributes={"a": 1}),
        [("POST", "/v1/vector_stores/vs/files"), ("GET", "/v1/vector_stores/vs/files/f")],
    ),
    "a file that is uploaded": (
        lambda c: c.vector_stores.files.upload_and_poll(vector_store_id="vs", file=b"x", attributes={"a": 1}),
        [("POST", "/v1/files"), ("POST", "/v1/vector_stores/vs/files"), ("GET", "/v1/vector_stores/vs/files/file-1")],
    ),
    "an upload alone": (
        lambda c: c.vector_stores.files.upload(vector_store_id="vs", file=b"x"),
        [("POST", "/v1/files"), ("POST", "/v1/vector_stores/vs/files")],
    ),
    "a batch": (
        lambda c: c.vector_stores.file_batches.create_and_poll("vs", file_ids=["f"], attributes={"a": 1}),
        [("POST", "/v1/vector_stores/vs/file_batches"), ("GET", "/v1/vector_stores/vs/file_batches/obj-1")],
    ),
    "a video": (
        lambda c: c.videos.create_and_poll(prompt="p"),
        [("POST", "/v1/videos"), ("GET", "/v1/videos/obj-1")],
    ),
}


@pytest.mark.parametrize("what", CREATES)
def test_what_it_creates(what: str) -> None:
    """Each helper makes its requests in order, with what belongs to them."""
    call, requests = CREATES[what]

    async def main() -> None:
        async with serving("completed") as at:
            found = await call(at.client)
            assert found.status == ("completed" if requests[-1][0] == "GET" else "in_progress")
            assert [(one.method, one.target) for one in at.server.seen] == requests
            created = at.server.seen[len(requests) - 2]
            if "attributes" in str(created.body):
                assert json.loads(created.body)["attributes"] == {"a": 1}
            if "vector_stores" in created.target:
                assert created.headers["openai-beta"] == "assistants=v2"

    run(main())


def test_options_go_where_they_belong() -> None:
    """Header fields go with each request of a helper, what is added to body and query with the first alone."""

    async def main() -> None:
        async with serving("completed") as at:
            await at.client.vector_stores.files.create_and_poll(
                "f", vector_store_id="vs", extra_headers={"X-A": "1"}, extra_body={"b": 2}, extra_query={"q": 3}
            )
            create, look = at.server.seen
            assert create.target.endswith("/files?q=3")
            assert json.loads(create.body) == {"file_id": "f", "b": 2}
            assert look.target.endswith("/files/f")
            assert create.headers["x-a"] == look.headers["x-a"] == "1"
            await at.client.videos.poll("v", extra_query={"q": 3})
            assert at.server.seen[-1].target == "/v1/videos/v?q=3"

    run(main())


def test_the_servers_hint_is_taken() -> None:
    """Without an interval of ours the server's own is kept; one that is no number, or far too long, is not."""

    async def main() -> None:
        async with serving(*["in_progress"] * 20, "completed") as at:
            at.fields["openai_poll_after_ms"] = "3"
            began = asyncio.get_running_loop().time()
            await at.client.vector_stores.files.poll("f", vector_store_id="vs")
            assert asyncio.get_running_loop().time() - began < 15  # twenty of our own pauses
            assert "x-stainless-custom-poll-interval" not in at.looks()[0].headers
        for lie in ("soon", "-5", "9" * 30, "1e3", ""):
            async with serving("in_progress") as at:
                at.fields["openai_poll_after_ms"] = lie
                with pytest.raises(TimeoutError):
                    await at.client.vector_stores.files.poll("f", vector_store_id="vs", max_wait_seconds=0.05)
                assert len(at.looks()) <= 2, lie

    run(main())


def test_our_interval_wins_and_is_told() -> None:
    """`poll_interval_ms` is kept against the server's hint, and the server is told of it, as officially."""

    async def main() -> None:
        async with serving("in_progress", "completed") as at:
            at.fields["openai_poll_after_ms"] = "60000"
            await at.client.vector_stores.files.poll("f", vector_store_id="vs", poll_interval_ms=FAST)
            assert at.looks()[0].headers["x-stainless-custom-poll-interval"] == "1"

    run(main())


@pytest.mark.parametrize(("limit", "kind"), [({"max_wait_seconds": 0.1}, TimeoutError), ({"deadline": 1.0}, OSError)])
def test_time_is_limited(limit: dict[str, Any], kind: type[Exception]) -> None:
    """A wait that takes too long ends with the object as it was, under the names that users catch."""

    async def main() -> None:
        async with serving("in_progress") as at:
            with pytest.raises(openaiasync.PollTimeoutError) as caught:
                await at.client.vector_stores.files.poll("f", vector_store_id="vs", poll_interval_ms=FAST, **limit)
            error = caught.value
            assert isinstance(error, kind)
            assert isinstance(error, openaiasync.APITimeoutError)
            assert isinstance(error, RuntimeError)
            assert (error.clock, error.partial.status) == ("deadline", "in_progress")
            assert "obj-1 is still 'in_progress'" in str(error)
            assert error.request.url.endswith("/vector_stores/vs/files/f")

    run(main())


def test_a_wait_of_no_time_looks_once() -> None:
    """`max_wait_seconds=0` is one look: a finished object is given, any other is a timeout."""

    async def main() -> None:
        for status in ("completed", "in_progress"):
            async with serving(status) as at:
                poll = at.client.vector_stores.files.poll("f", vector_store_id="vs", max_wait_seconds=0)
                if status == "completed":
                    await poll
                else:
                    with pytest.raises(TimeoutError):
                        await poll
                assert len(at.looks()) == 1

    run(main())


def test_a_deadline_covers_a_server_that_hangs() -> None:
    """The deadline ends a look that is never answered too, with the object as it was before."""

    async def main() -> None:
        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if len(server.seen) > 1:
                await asyncio.sleep(60)
            writer.write(json_answer({**STORE_FILE, "status": "in_progress"}))

        async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k") as client:
            with pytest.raises(openaiasync.APITimeoutError) as caught:
                await client.vector_stores.files.poll("f", vector_store_id="vs", poll_interval_ms=FAST, deadline=0.5)
            assert caught.value.clock == "deadline"
            assert caught.value.partial.status == "in_progress"

    run(main())


def test_an_error_of_a_look_is_raised() -> None:
    """An object that is gone ends the wait with the error of that look; a server in trouble is asked again."""

    async def main() -> None:
        async with serving("in_progress", 404) as at:
            with pytest.raises(openaiasync.NotFoundError):
                await at.client.vector_stores.files.poll("f", vector_store_id="vs", poll_interval_ms=FAST)
        async with serving("in_progress", 503, "completed") as at:
            found = await at.client.vector_stores.files.poll(
                "f", vector_store_id="vs", poll_interval_ms=FAST, max_retries=2
            )
            assert found.status == "completed"

    run(main())


def test_an_object_without_id() -> None:
    """An answer that cannot be waited for is an error of the server's, not a mistake in an argument of ours."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer({"id": None if len(server.seen) % 2 else "", "status": "in_progress"}))

    async def main() -> None:
        nonlocal server
        async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k") as client:
            upload: dict[str, Any] = {"file": b"x", "filename": "f", "mime_type": "a/b", "purpose": "batch"}
            calls: list[Poll] = [call for call, _ in CREATES.values()]
            calls.append(lambda c: c.beta.threads.runs.create_and_poll(thread_id="th", assistant_id="as"))
            calls.append(lambda c: c.uploads.upload_file_chunked(**upload))
            for call in calls:
                with pytest.raises(
                    openaiasync.APIResponseValidationError, match=r"no 'id'|none of the requested content"
                ):
                    await call(client)

    server: Scripted
    run(main())


@pytest.mark.parametrize("by", ["cancel", "close"])
def test_ending_it_from_outside(by: str) -> None:
    """A cancelled wait asks no more, and a closed client ends one with a typed error, both at once."""

    async def main() -> None:
        async with serving("in_progress") as at:
            poll = at.client.vector_stores.files.poll("f", vector_store_id="vs", poll_interval_ms=50_000)
            task = asyncio.ensure_future(poll)
            while not at.looks():
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.05)  # it pauses now
            if by == "cancel":
                task.cancel()
            else:
                await at.client.close()
            with pytest.raises(asyncio.CancelledError if by == "cancel" else openaiasync.ClientClosedError):
                await asyncio.wait_for(task, 20)
            assert len(at.looks()) == 1

    run(main())


@pytest.mark.parametrize("wrong", [-1, float("nan"), float("inf"), "1", True])
def test_times_that_are_none(wrong: Any) -> None:
    """They are refused before anything is sent."""

    async def main() -> None:
        async with serving("completed") as at:
            for name in ("poll_interval_ms", "max_wait_seconds", "deadline"):
                options: Any = {name: wrong}
                with pytest.raises((TypeError, ValueError), match=name):
                    await at.client.vector_stores.files.poll("f", vector_store_id="vs", **options)
            assert not at.server.seen
            for none in (openaiasync.omit, openaiasync.NOT_GIVEN, None):
                options = {"poll_interval_ms": none, "max_wait_seconds": none}
                await at.client.vector_stores.files.poll("f", vector_store_id="vs", **options)

    run(main())


class TestManyFiles:
    """`file_batches.upload_and_poll`."""

    def test_files_keep_their_order(self) -> None:
        """Files are uploaded some at a time, and attached in the order in which they were given."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if seen.target == "/v1/files":
                name = seen.body.partition(b"content-")[2][:1].decode()
                while server.peak < 3 or (name == "0" and len(server.seen) < 7):  # the first is the last to be done
                    await asyncio.sleep(0.001)
                writer.write(json_answer({"id": f"file-{name}", "object": "file"}))
            else:
                writer.write(json_answer({"id": "b-1", "status": "completed"}))

        async def main() -> None:
            nonlocal server
            async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k") as client:
                batch = await client.vector_stores.file_batches.upload_and_poll(
                    "vs", files=[b"content-%d" % n for n in range(7)], file_ids=["old"], max_concurrency=3
                )
                assert batch.status == "completed"
                assert server.peak == 3
                create = next(one for one in server.seen if one.target.endswith("/file_batches"))
                assert create.json() == {"file_ids": ["old", *(f"file-{n}" for n in range(7))]}

        server: Scripted
        run(main())

    def test_a_failed_upload_ends_the_others(self) -> None:
        """The first error is raised, says what was uploaded, nothing is attached, and nothing goes on."""

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if b"content-1" in seen.body:
                while len(server.seen) < 4:
                    await asyncio.sleep(0.001)
                writer.write(json_answer({"error": {"message": "too big"}}, 413))
            elif b"content-0" not in seen.body:
                await asyncio.sleep(60)
            else:
                writer.write(json_answer({"id": "file-0", "object": "file"}))

        async def main() -> None:
            nonlocal server
            async with scripted(script) as server, AsyncOpenAI(base_url=server.url, api_key="k") as client:
                batches = client.vector_stores.file_batches
                with pytest.raises(openaiasync.APIStatusError) as caught:
                    await batches.upload_and_poll("vs", files=[b"content-%d" % n for n in range(9)], max_concurrency=3)
                assert caught.value.status_code == 413
                assert caught.value.__notes__ == ["uploaded by then, and not attached: file-0"]
                assert len(server.seen) == 4
                assert {one.target for one in server.seen} == {"/v1/files"}

        server: Scripted
        run(main())

    def test_nothing_to_attach_is_refused(self) -> None:
        """No files, or no places to upload them in, is a mistake that nothing is sent for."""

        async def main() -> None:
            async with serving("completed") as at:
                batches = at.client.vector_stores.file_batches
                with pytest.raises(ValueError, match="no files"):
                    await batches.upload_and_poll("vs", files=[])
                with pytest.raises(ValueError, match="max_concurrency"):
                    await batches.upload_and_poll("vs", files=[b"a"], max_concurrency=0)
                assert not at.server.seen

        run(main())


def test_helpers_have_no_raw_twin() -> None:
    """As officially, a method that makes several requests is not an attribute of `with_raw_response`."""
    client = AsyncOpenAI(api_key="k", base_url="http://127.0.0.1:1/v1")
    for namespace, name in ((client.videos, "poll"), (client.vector_stores.files, "upload_and_poll")):
        assert callable(getattr(namespace, name))
        for view in (namespace.with_raw_response, namespace.with_streaming_response):
            assert not hasattr(view, name)
            assert hasattr(view, "retrieve")
