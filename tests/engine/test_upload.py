"""Uploads over real sockets: whole, in slices, from every kind of file, or an error before anything is sent."""

from __future__ import annotations

import asyncio
import io
import os
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from forms import parts_of
from openaiasync import APIStatusError, APITimeoutError, Client
from openaiasync.core.codec.endpoint import Endpoint
from openaiasync.core.http.multipart import Multipart
from openaiasync.engine.uploads import SLICE, Upload
from scripted import Seen, head, json_answer, scripted
from wireserver import Peer, Server

UPLOAD = Endpoint(
    "things.create",
    "POST",
    "/things",
    required="file",
    body="multipart",
    files="file",
    type="core.model.base:OpenModel",
)
ANSWER = json_answer({"id": "f"})


def client_of(server: Server, **options: Any) -> Client:
    return Client(api_base=f"http://127.0.0.1:{server.port}/v1", **{"max_retries": 2, **options})


async def send(client: Client, file: Any) -> Any:
    return await client._calls.run(UPLOAD, {"file": file})


def open_files(folder: Path) -> list[str]:
    """Files below a folder that this process has open."""
    found: list[str] = []
    for name in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith(str(folder)):
            found.append(target)
    return found


def left_open(folder: Path) -> list[str]:
    """Files below a folder that stay open: the thread that reads one closes it up to a moment after the call ended."""
    until = time.monotonic() + 10
    while (found := open_files(folder)) and time.monotonic() < until:
        time.sleep(0.005)
    return found


async def pieces_of(upload: Upload) -> bytes:
    return b"".join([piece async for piece in upload.open()])


class Unseekable(io.RawIOBase):
    """A stream of so many bytes that cannot be rewound."""

    def __init__(self, size: int) -> None:
        self.left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self.left, 50_000)
        buffer[:size] = b"z" * size
        self.left -= size
        return size


class TestSent:
    """What arrives is what the file holds."""

    @pytest.mark.parametrize("size", [0, 1, SLICE - 1, SLICE, SLICE + 1, 1_000_003])
    def test_a_path(self, tmp_path: Path, size: int) -> None:
        """A path's content arrives whole, whatever its size, with the length said beforehand."""
        path = tmp_path / "data.bin"
        path.write_bytes(content := os.urandom(size))

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(ANSWER)

        async def main() -> Seen:
            async with scripted(script) as server, Client(api_base=server.url) as client:
                await send(client, path)
                return server.seen[0]

        seen = run(main())
        assert int(seen.headers["content-length"]) == len(seen.body)
        (part,) = parts_of(seen.headers["content-type"], seen.body)
        assert (part.name, part.file_name) == ("file", "data.bin")
        assert seen.body.partition(b"\r\n\r\n")[2].startswith(content)
        assert not left_open(tmp_path)

    @pytest.mark.parametrize("kind", ["path", "open", "memory", "spooled"])
    def test_again_after_an_error(self, tmp_path: Path, kind: str) -> None:
        """What can be rewound is sent again, the same bytes to the last."""
        path = tmp_path / "data.bin"
        path.write_bytes(os.urandom(300_000))
        files = {
            "path": lambda: path,
            "open": lambda: path.open("rb"),
            "memory": lambda: io.BytesIO(path.read_bytes()),
            "spooled": tempfile.SpooledTemporaryFile,
        }
        file: Any = files[kind]()
        if kind == "spooled":
            file.write(path.read_bytes())

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            again = int(seen.connection) == 1 and len(bodies) == 0
            bodies.append(seen.body)
            writer.write(json_answer({}, status=503, Retry_After="0") if again else ANSWER)

        bodies: list[bytes] = []

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url) as client:
                await send(client, file)

        run(main())
        assert len(bodies) == 2
        assert bodies[0] == bodies[1]
        assert path.read_bytes() in bodies[1]
        if kind != "path":
            assert not file.closed, "a file of the caller's stays open"
            file.close()

    def test_an_open_file_is_sent_from_its_start(self) -> None:
        """As the official client does it: where a file stands does not matter if it can be rewound."""
        file = io.BytesIO()
        file.write(b"written, and not rewound")

        async def main() -> bytes:
            return await pieces_of(await Upload.of(Multipart.of({"file": file})))

        assert b"\r\n\r\nwritten, and not rewound\r\n" in run(main())

    def test_what_cannot_be_rewound_is_sent_in_chunks_and_once(self) -> None:
        """A stream without a length goes out chunked; after an error it is not sent again."""

        async def script(peer: Peer) -> None:
            request = await peer.request()
            assert request.field("content-length") is None
            assert request.field("transfer-encoding") == "chunked"
            found.append(request.body.count(b"z"))
            await peer.send(json_answer({}, status=503))

        found: list[int] = []

        async def main() -> None:
            async with Server(script) as server, client_of(server) as client:
                with pytest.raises(APIStatusError) as caught:
                    await send(client, Unseekable(600_001))
                assert caught.value.tries == 1

        run(main())
        assert found == [600_001]

    def test_redirects(self, tmp_path: Path) -> None:
        """A redirect within the origin is followed with the whole body again, unless there is none any more."""
        path = tmp_path / "data.bin"
        path.write_bytes(content := os.urandom(300_000))

        async def script(peer: Peer) -> None:
            while True:
                request = await peer.request()
                seen.append(request.line.split(" ")[1])
                if request.line.startswith("POST /v1/things"):
                    await peer.send(head(307, "X", Location="/v1/moved", Content_Length="0"))
                else:
                    assert content in request.body
                    await peer.send(ANSWER)

        seen: list[str] = []

        async def main() -> None:
            async with Server(script) as server, client_of(server) as client:
                await send(client, path)
                with pytest.raises(APIStatusError, match="cannot be rewound"):
                    await send(client, Unseekable(100_000))

        run(main())
        assert seen == ["/v1/things", "/v1/moved", "/v1/things"]

    def test_two_uploads_of_one_file_do_not_disturb_each_other(self) -> None:
        """A file in memory may be sent by several calls at once."""
        file = io.BytesIO(content := os.urandom(900_000))

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            writer.write(ANSWER)

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url) as client:
                await asyncio.gather(*(send(client, file) for _ in range(4)))
                assert [content in seen.body for seen in server.seen] == [True] * 4

        run(main())

    @pytest.mark.parametrize("size", [50 << 20, pytest.param(500 << 20, marks=pytest.mark.slow)])
    def test_memory_stays_flat(self, tmp_path: Path, size: int) -> None:
        """However long a file is, a few slices of it are in memory."""
        path = tmp_path / "large.bin"
        with path.open("wb") as file:
            file.truncate(size)

        async def script(peer: Peer) -> None:
            request = await peer.head()
            left = int(request.field("content-length") or 0)
            assert left > size
            while left:
                left -= len(await peer.reader.read(1 << 20))
            await peer.send(ANSWER)

        async def main() -> int:
            async with Server(script) as server, client_of(server) as client:
                tracemalloc.start()
                try:
                    await send(client, path)
                    return tracemalloc.get_traced_memory()[1]
                finally:
                    tracemalloc.stop()

        assert run(main(), timeout=55) < 12 << 20


class TestRefused:
    """Files that cannot be sent."""

    @pytest.mark.parametrize(
        ("make", "kind"),
        [
            (lambda path: None, FileNotFoundError),
            (Path.mkdir, IsADirectoryError),
            (os.mkfifo, OSError),
            (lambda path: path.symlink_to(path), OSError),
        ],
    )
    def test_an_error_before_anything_is_sent(self, tmp_path: Path, make: Any, kind: type[OSError]) -> None:
        """Missing, a directory, a pipe, a loop of links: `OSError` with the path, no connection, no place taken."""
        path = tmp_path / "odd"
        make(path)

        async def main() -> None:
            async with Server() as server, client_of(server, http_max_in_flight=1) as client:
                for _ in range(2):
                    with pytest.raises(kind) as caught:
                        await send(client, path)
                    assert caught.value.filename == str(path)
                assert not server.peers

        run(main())

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read(self, tmp_path: Path) -> None:
        """`PermissionError` before anything is sent."""
        path = tmp_path / "secret"
        path.write_bytes(b"x")
        path.chmod(0)

        async def main() -> None:
            with pytest.raises(PermissionError):
                await Upload.of(Multipart.of({"file": path}))

        run(main())

    def test_a_closed_file(self) -> None:
        """`ValueError`, as of every closed file."""
        file = io.BytesIO(b"x")
        file.close()

        async def main() -> None:
            with pytest.raises(ValueError, match="closed"):
                await Upload.of(Multipart.of({"file": file}))

        run(main())

    @pytest.mark.parametrize("change", [b"", b"short", b"x" * 300_001, b"x" * 900_000, None])
    @pytest.mark.parametrize("opened", [False, True])
    def test_a_file_that_changes_its_size(self, tmp_path: Path, change: bytes | None, opened: bool) -> None:
        """A file that shrinks, grows or goes away after the look at it is an `OSError`, never a cut form."""
        path = tmp_path / "changing"
        path.write_bytes(b"y" * 300_000)

        async def main() -> None:
            with path.open("rb") as file:
                upload = await Upload.of(Multipart.of({"file": file if opened else path}))
                if change is None:
                    path.unlink()
                    if opened:
                        return  # an open file outlives its name
                else:
                    path.write_bytes(change)
                with pytest.raises(OSError, match=r"changed its size|No such file"):
                    await pieces_of(upload)

        run(main())
        assert not left_open(tmp_path)

    def test_a_file_that_grows_while_it_is_sent(self, tmp_path: Path) -> None:
        """The server never sees the end of the form, and the caller gets the `OSError`, once."""
        path = tmp_path / "growing"
        path.write_bytes(b"y" * 3 * SLICE)

        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.reader.readexactly(SLICE)
            with path.open("ab") as file:
                file.write(b"more")
            rest = await peer.reader.read(-1)
            ends.append(rest.endswith(b"--\r\n"))

        ends: list[bool] = []

        async def main() -> None:
            async with Server(script) as server, client_of(server) as client:
                with pytest.raises(OSError, match="changed its size"):
                    await send(client, path)
                await asyncio.sleep(0.05)
                assert len(server.peers) == 1

        run(main())
        assert ends == [False]

    @pytest.mark.parametrize("what", [ValueError("broken source"), "text"])
    def test_a_source_that_fails(self, what: Any) -> None:
        """What reading the caller's file raises reaches the caller as it is; reading text is a `TypeError`."""

        class Failing:
            def read(self, size: int) -> Any:
                if isinstance(what, Exception):
                    raise what
                return what

        async def main() -> None:
            async with Server() as server, client_of(server) as client:
                with pytest.raises(ValueError if isinstance(what, Exception) else TypeError) as caught:
                    await send(client, Failing())
                if isinstance(what, Exception):
                    assert caught.value is what
                assert len(server.peers) == 1

        run(main())


class TestUnderWay:
    """Servers and callers that end an upload."""

    def test_an_early_answer_ends_it(self, tmp_path: Path) -> None:
        """A server that refuses before it has read everything is heard, and the file is let go."""
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(64 << 20)

        async def script(peer: Peer) -> None:
            await peer.head()
            await peer.send(json_answer({"error": {"message": "too large"}}, status=413, Connection="close"))
            await peer.gone()

        async def main() -> None:
            async with Server(script) as server, client_of(server) as client:
                with pytest.raises(APIStatusError, match="too large") as caught:
                    await send(client, path)
                assert caught.value.status_code == 413

        run(main())
        assert not left_open(tmp_path)

    def test_a_server_that_does_not_read(self, tmp_path: Path) -> None:
        """An upload that nobody takes ends with the start clock, and is not sent again."""
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(64 << 20)

        async def script(peer: Peer) -> None:
            await peer.head()
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(20)

        async def main() -> None:
            async with Server(script) as server, client_of(server, http_timeout=0.4, max_retries=0) as client:
                with pytest.raises(APITimeoutError) as caught:
                    await send(client, path)
                assert caught.value.clock == "start"

        run(main())
        assert not left_open(tmp_path)

    def test_a_cancelled_upload_lets_the_file_go(self, tmp_path: Path) -> None:
        """Cancelled at any moment, an upload leaves no open file and no connection."""
        path = tmp_path / "large"
        with path.open("wb") as file:
            file.truncate(64 << 20)

        async def script(peer: Peer) -> None:
            await peer.gone()

        async def main() -> None:
            async with Server(script) as server, client_of(server, http_max_in_flight=None) as client:
                for pause in (0, 0.001, 0.005, 0.02, 0.05):
                    task = asyncio.create_task(send(client, path))
                    await asyncio.sleep(pause)
                    task.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await task
                for _ in range(1000):
                    if not server.open:
                        break
                    await asyncio.sleep(0.01)
                assert not server.open

        run(main())
        assert not left_open(tmp_path)

    def test_the_event_loop_goes_on(self, tmp_path: Path) -> None:
        """Files are read beside the loop: no step of an upload blocks it for long."""
        path = tmp_path / "pipe"
        os.mkfifo(path)
        reader, writer = os.open(path, os.O_RDONLY | os.O_NONBLOCK), os.open(path, os.O_WRONLY)
        os.set_blocking(reader, True)

        async def script(peer: Peer) -> None:
            await peer.request()
            await peer.send(ANSWER)

        async def main() -> None:
            with os.fdopen(reader, "rb", buffering=0) as file:
                async with Server(script) as server, client_of(server) as client:
                    task = asyncio.create_task(send(client, file))
                    await asyncio.sleep(0.05)  # would never come back if the loop read the pipe itself
                    assert not task.done()
                    os.write(writer, b"at last")
                    os.close(writer)
                    await task

        run(main(), timeout=10)
