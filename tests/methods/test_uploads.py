"""Large files in parts: the requests, their sources, and the handling of failed uploads."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import openaiasync
from conftest import run
from forms import parts_of
from openaiasync import AsyncOpenAI
from openaiasync.methods.files import PART_SIZE
from scripted import Scripted, Seen, json_answer, scripted

DATA = bytes(range(256)) * 10
UPLOAD = {"id": "up-1", "object": "upload", "bytes": len(DATA), "created_at": 1, "expires_at": 2, "filename": "f"}
ABOUT: dict[str, Any] = {"mime_type": "text/plain", "purpose": "assistants"}
Fail = Callable[[int], int | None]  # number of a part's try → the status to fail with


class Server(NamedTuple):
    client: AsyncOpenAI
    server: Scripted

    def paths(self) -> list[str]:
        return [one.target.removeprefix("/v1/uploads") for one in self.server.seen]

    def parts(self) -> list[bytes]:
        forms = [one for one in self.server.seen if one.target.endswith("/parts")]
        return [parts_of(one.headers["content-type"], one.body)[0].content for one in forms]


@asynccontextmanager
async def serving(fail: Fail = lambda count: None, **options: Any) -> AsyncIterator[Server]:
    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        last = seen.target.rpartition("/")[2]
        if last == "parts":
            count = sum(one.target.endswith("/parts") for one in server.seen)
            status = fail(count)
            if status == 0:
                await asyncio.sleep(60)
            answer: Any = {"id": f"part-{count}", "object": "upload.part", "created_at": 1, "upload_id": "up-1"}
            writer.write(json_answer({"error": {"message": "m"}} if status else answer, status or 200))
        else:
            status_ = {"uploads": "pending", "complete": "completed", "cancel": "cancelled"}[last]
            writer.write(json_answer({**UPLOAD, "status": status_}))

    async with scripted(script) as server:
        async with AsyncOpenAI(base_url=server.url, api_key="k", **{"max_retries": 0, **options}) as client:
            yield Server(client, server)


def sources(path: Path) -> dict[str, dict[str, Any]]:
    """The ways to give the same 2,560 bytes."""
    path.write_bytes(DATA)
    named = io.BytesIO(b"before" + DATA)
    named.seek(6)
    return {
        "path": {"file": path},
        "bytes": {"file": DATA, "filename": "big.txt", "bytes": len(DATA)},
        "bytes of a length found out": {"file": DATA, "filename": "big.txt"},
        "memory": {"file": memoryview(DATA), "filename": "big.txt"},
        "a file, from where it stands": {"file": named, "filename": "big.txt"},
    }


def test_a_file_in_parts(tmp_path: Path) -> None:
    """The upload is begun, its parts are sent in order, and all of them complete it; whatever the file comes as."""

    async def main() -> None:
        for what, given in sources(tmp_path / "big.txt").items():
            async with serving() as at:
                upload = await at.client.uploads.upload_file_chunked(part_size=1000, **given, **ABOUT)
                assert upload.status == "completed", what
                assert at.paths() == ["", "/up-1/parts", "/up-1/parts", "/up-1/parts", "/up-1/complete"]
                assert at.parts() == [DATA[:1000], DATA[1000:2000], DATA[2000:]]
                begun = at.server.seen[0].json()
                assert begun == {**ABOUT, "filename": "big.txt", "bytes": len(DATA)}
                assert at.server.seen[-1].json() == {"part_ids": ["part-1", "part-2", "part-3"]}

    run(main())


def test_an_open_file_stays_open(tmp_path: Path) -> None:
    """A file that the caller opened is read to its end and left open; its name is taken."""
    path = tmp_path / "named.txt"
    path.write_bytes(DATA)

    async def main() -> None:
        with path.open("rb") as file:
            async with serving() as at:
                await at.client.uploads.upload_file_chunked(file=file, **ABOUT)
                assert at.server.seen[0].json()["filename"] == "named.txt"
                assert at.parts() == [DATA]
            assert file.tell() == len(DATA)

    run(main())


def test_md5() -> None:
    """A sum of the caller's is sent as it is; `True` computes it while the parts are read."""

    async def main() -> None:
        for given, sent in ((True, hashlib.md5(DATA).hexdigest()), ("abc", "abc"), (openaiasync.omit, None)):
            async with serving() as at:
                options: Any = {"md5": given}
                await at.client.uploads.upload_file_chunked(file=DATA, filename="f", part_size=1000, **ABOUT, **options)
                assert at.server.seen[-1].json().get("md5") == sent

    run(main())


def test_an_empty_file() -> None:
    """No part is sent of nothing."""

    async def main() -> None:
        async with serving() as at:
            await at.client.uploads.upload_file_chunked(file=b"", filename="f", **ABOUT)
            assert at.paths() == ["", "/up-1/complete"]

    run(main())


def test_a_failed_part_is_sent_again() -> None:
    """A part that the server failed to take is retried like any call, with the same bytes."""

    async def main() -> None:
        async with serving(lambda count: 503 if count == 2 else None, max_retries=1) as at:
            await at.client.uploads.upload_file_chunked(file=DATA, filename="f", part_size=2000, **ABOUT)
            assert at.parts() == [DATA[:2000], DATA[2000:], DATA[2000:]]
            assert at.server.seen[-1].json() == {"part_ids": ["part-1", "part-3"]}

    run(main())


def test_a_failed_upload_is_cancelled() -> None:
    """A part that cannot be sent ends the upload with its error, and the server is told."""

    async def main() -> None:
        async with serving(lambda count: 413 if count == 2 else None) as at:
            with pytest.raises(openaiasync.APIStatusError) as caught:
                await at.client.uploads.upload_file_chunked(file=DATA, filename="f", part_size=1000, **ABOUT)
            assert caught.value.status_code == 413
            assert at.paths() == ["", "/up-1/parts", "/up-1/parts", "/up-1/cancel"]

    run(main())


def test_a_deadline_is_of_the_whole_upload() -> None:
    """A part that is never answered ends with the deadline, and the upload is cancelled."""

    async def main() -> None:
        async with serving(lambda count: 0 if count == 2 else None) as at:
            with pytest.raises(openaiasync.APITimeoutError) as caught:
                await at.client.uploads.upload_file_chunked(
                    file=DATA, filename="f", part_size=1000, deadline=1.0, **ABOUT
                )
            assert caught.value.clock == "deadline"
            assert at.paths()[-1] == "/up-1/cancel"

    run(main())


def test_a_cancelled_task_sends_no_more(tmp_path: Path) -> None:
    """Cancelling frees everything at once: no request follows, and the file is closed (or a warning would say so)."""
    path = tmp_path / "big.txt"
    path.write_bytes(DATA)

    async def main() -> None:
        async with serving(lambda count: 0) as at:
            task = asyncio.ensure_future(at.client.uploads.upload_file_chunked(file=path, **ABOUT))
            while len(at.server.seen) < 2:
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert at.paths() == ["", "/up-1/parts"]

    run(main())


@pytest.mark.parametrize("said", [100, 10_000])
def test_a_file_of_another_length(said: int) -> None:
    """A file that is not as long as it was said to be is an error of ours, before the server could wonder."""

    async def main() -> None:
        async with serving() as at:
            with pytest.raises(ValueError, match=f"than the {said} bytes given"):
                await at.client.uploads.upload_file_chunked(file=DATA, filename="f", bytes=said, **ABOUT)
            assert sum(map(len, at.parts())) <= said
            assert at.paths()[-1] == "/up-1/cancel"

    run(main())


def test_what_is_no_file(tmp_path: Path) -> None:
    """Arguments that cannot work are refused before anything is sent."""

    async def main() -> None:
        wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
            ({"file": b"x"}, TypeError, "filename="),
            ({"file": io.BytesIO(b"x")}, TypeError, "filename="),
            ({"file": io.StringIO("x"), "filename": "f"}, TypeError, "not StringIO"),
            ({"file": None, "filename": "f"}, TypeError, "not NoneType"),
            ({"file": b"x", "filename": "f", "bytes": "1"}, TypeError, "whole number"),
            ({"file": b"x", "filename": "f", "part_size": 0}, ValueError, "part_size"),
            ({"file": b"x", "filename": "f", "part_size": PART_SIZE + 1}, ValueError, "part_size"),
            ({"file": tmp_path / "none"}, FileNotFoundError, "none"),
        ]
        async with serving() as at:
            for given, kind, words in wrong:
                with pytest.raises(kind, match=words):
                    await at.client.uploads.upload_file_chunked(**{**ABOUT, **given})
            assert not at.server.seen

    run(main())


def test_a_part_is_as_large_as_allowed() -> None:
    """Without a size of ours, parts are as large as the API takes them."""
    assert PART_SIZE == 64 << 20
