"""Files are written whole or not at all, by every method and however the writing ends."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import Client, IncompleteStreamError, OpenAIError
from openaiasync.storage.atomic import AtomicFile, write_file, write_pieces, write_whole
from openaiasync.types.image import Image
from scripted import Seen, answer, head, json_answer, scripted

OLD, NEW = b"old content\n", os.urandom(300_000)
pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes, pipes and locks as POSIX has them")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


def leftovers(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if name.startswith(".openaiasync-")]


async def pieces(*given: bytes | float | BaseException) -> AsyncIterator[bytes]:
    for one in given:
        if isinstance(one, float):
            await asyncio.sleep(one)
        elif isinstance(one, BaseException):
            raise one
        else:
            yield one


class TestWholeOrNot:
    """An existing file is exchanged at the end, or untouched."""

    @pytest.mark.parametrize("there", [True, False])
    def test_success(self, tmp_path: Path, there: bool) -> None:
        """The new content, nothing beside it, and no descriptor left."""
        path = tmp_path / "a.bin"
        if there:
            path.write_bytes(OLD)
        before = descriptors()
        run(write_pieces(path, pieces(NEW[:100], NEW[100:200_000], 0.01, NEW[200_000:])))
        assert path.read_bytes() == NEW
        assert os.listdir(tmp_path) == ["a.bin"]
        assert descriptors() == before
        write_file(path, b"")
        assert path.read_bytes() == b""

    @pytest.mark.parametrize("there", [True, False])
    def test_failure(self, tmp_path: Path, there: bool) -> None:
        """What raises between pieces leaves what was there, or nothing."""
        path = tmp_path / "a.bin"
        if there:
            path.write_bytes(OLD)
        with pytest.raises(ZeroDivisionError):
            run(write_pieces(path, pieces(NEW, NEW, ZeroDivisionError())))
        assert os.listdir(tmp_path) == (["a.bin"] if there else [])
        assert not there or path.read_bytes() == OLD

    def test_cancelled_at_any_moment(self, tmp_path: Path) -> None:
        """Old or new, never a part; nothing beside it."""
        path = tmp_path / "a.bin"
        path.write_bytes(OLD)
        before = descriptors()

        async def main() -> None:
            for number in range(60):
                task = asyncio.create_task(write_pieces(path, pieces(NEW, 0.001, NEW, 0.001, NEW)))
                await asyncio.sleep(number * 0.0002)
                task.cancel()
                await asyncio.wait([task])
                assert leftovers(tmp_path) == []
                assert path.read_bytes() in (OLD, NEW * 3)

        run(main())
        assert descriptors() == before

    def test_a_full_disk(self, tmp_path: Path) -> None:
        """The old content stays. (A limit on the size of files stands for the disk's end.)"""
        path = tmp_path / "a.bin"
        path.write_bytes(OLD)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                write_file(path, NEW)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert path.read_bytes() == OLD
        assert os.listdir(tmp_path) == ["a.bin"]

    def test_exclusive(self, tmp_path: Path) -> None:
        """Of many that make one new file a single one succeeds."""
        path, won, lost = tmp_path / "a", [], []

        def make(number: int) -> None:
            file = AtomicFile.open(path)
            file.write(str(number).encode())
            try:
                file.commit(exclusive=True)
                won.append(number)
            except FileExistsError:
                lost.append(number)

        threads = [threading.Thread(target=make, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 19)
        assert path.read_bytes() == str(won[0]).encode()
        assert os.listdir(tmp_path) == ["a"]


class TestTargets:
    """What is at the path decides how it is written."""

    def test_links_are_followed(self, tmp_path: Path) -> None:
        """Relative, chained and dangling ones stay links."""
        (tmp_path / "deep").mkdir()
        path = tmp_path / "deep" / "real"
        (tmp_path / "one").symlink_to("deep/two")
        (tmp_path / "deep" / "two").symlink_to("real")
        write_file(tmp_path / "one", b"1")  # dangling
        assert path.read_bytes() == b"1"
        write_file(tmp_path / "one", b"2")
        assert path.read_bytes() == b"2"
        assert (tmp_path / "one").is_symlink()
        assert (tmp_path / "deep" / "two").is_symlink()
        assert leftovers(tmp_path / "deep") == []

    def test_modes(self, tmp_path: Path) -> None:
        """Kept where a file was; else what the umask leaves."""
        path = tmp_path / "a"
        before = os.umask(0o027)
        try:
            write_file(path, b"1")
        finally:
            os.umask(before)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write_file(path, b"2")
        assert stat.S_IMODE(path.stat().st_mode) == 0o604

    def test_hard_links_stay_together(self, tmp_path: Path) -> None:
        """The file itself is written to at the end, shorter or longer."""
        path, other = tmp_path / "a", tmp_path / "b"
        path.write_bytes(OLD)
        os.link(path, other)
        for content in (NEW, b"x"):
            write_file(path, content)
            assert other.read_bytes() == content
            assert os.path.samefile(path, other)
        assert leftovers(tmp_path) == []

    @pytest.mark.skipif(not hasattr(os, "setxattr"), reason="no extended attributes here")
    def test_what_is_attached_to_a_file_stays(self, tmp_path: Path) -> None:
        """As access control lists are."""
        path = tmp_path / "a"
        path.write_bytes(OLD)
        try:
            os.setxattr(path, "user.label", b"x")
        except OSError:
            pytest.skip("no extended attributes on this file system")
        write_file(os.fsencode(path), NEW)  # a path as bytes
        assert path.read_bytes() == NEW
        assert os.getxattr(path, "user.label") == b"x"
        assert leftovers(tmp_path) == []

    def test_a_folder_that_takes_no_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file in it that may be written to is written to; not before all has come."""
        from openaiasync.storage import atomic

        path = tmp_path / "a"
        path.write_bytes(OLD)
        making = atomic._temporary_in

        def refused(folder: str, mode: int) -> Any:
            if folder == str(tmp_path):
                raise PermissionError(13, "Permission denied", folder)
            return making(folder, mode)

        monkeypatch.setattr(atomic, "_temporary_in", refused)
        with pytest.raises(ZeroDivisionError):
            run(write_pieces(path, pieces(NEW, ZeroDivisionError())))
        assert path.read_bytes() == OLD
        write_file(path, NEW)
        assert path.read_bytes() == NEW
        with pytest.raises(PermissionError):
            write_file(tmp_path / "new", NEW)

    @pytest.mark.skipif(os.name == "posix" and os.geteuid() == 0, reason="root may write to everything")
    def test_a_file_that_may_not_be_written_to_is_not_replaced(self, tmp_path: Path) -> None:
        """As `open` has it."""
        path = tmp_path / "a"
        path.write_bytes(OLD)
        path.chmod(0o444)
        with pytest.raises(PermissionError):
            write_file(path, NEW)

    def test_a_directory_is_refused_before_anything_is_asked_for(self, tmp_path: Path) -> None:
        """`IsADirectoryError`; and `FileNotFoundError` for a folder that does not exist."""
        asked: list[int] = []

        async def watched() -> AsyncIterator[bytes]:
            asked.append(1)
            yield b"x"

        for path, kind in ((tmp_path, IsADirectoryError), (tmp_path / "no" / "a", FileNotFoundError)):
            with pytest.raises(kind):
                run(write_pieces(path, watched()))
        assert not asked

    def test_a_pipe_is_written_to_as_it_comes(self, tmp_path: Path) -> None:
        """Also if its reader comes late; the pipe stays."""
        path = tmp_path / "pipe"
        os.mkfifo(path)
        got: list[bytes] = []

        def read() -> None:
            time.sleep(0.1)
            with open(path, "rb") as file:
                got.append(file.read())

        thread = threading.Thread(target=read)
        thread.start()
        run(write_pieces(path, pieces(NEW, NEW)))
        thread.join()
        assert got == [NEW * 2]
        assert stat.S_ISFIFO(path.stat().st_mode)
        assert os.listdir(tmp_path) == ["pipe"]

    @pytest.mark.parametrize("reader", [False, True])
    def test_a_pipe_that_nobody_reads_can_be_left(self, tmp_path: Path, reader: bool) -> None:
        """Cancelling ends the thread too, whether it waits for a reader or for room."""
        path = tmp_path / "pipe"
        os.mkfifo(path)
        end = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if reader else None

        async def main() -> float:
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await write_whole(path, NEW)
            return time.monotonic() - began

        assert run(main()) < 5
        if end is not None:
            os.close(end)

    def test_devices(self) -> None:
        """``/dev/null`` takes everything, ``/dev/full`` raises what the system says."""
        write_file("/dev/null", NEW)
        assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
        with pytest.raises(OSError, match="No space left"):
            write_file("/dev/full", b"x")

    @pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
    def test_the_standard_output_is_not_exchanged(self, tmp_path: Path, name: str) -> None:
        """A shell's file behind it keeps what was written before, and gets what is written after."""
        if name == "link":
            (tmp_path / "link").symlink_to("/dev/stdout")
            name = str(tmp_path / "link")
        program = (
            "import sys; from openaiasync.storage.atomic import write_file; print('a', flush=True); "
            "write_file(sys.argv[1], b'b'); print('c')"
        )
        with open(tmp_path / "out", "ab") as out:
            subprocess.run([sys.executable, "-c", program, name], stdout=out, check=True, timeout=50)
        assert (tmp_path / "out").read_bytes() == b"a\nbc\n"
        done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, check=True, timeout=50)
        assert done.stdout == b"a\nbc\n"


class TestWhatIsLeftBehind:
    """Temporary files are locked while somebody writes, and removed by the next writer if nobody does."""

    def test_a_killed_writer_and_one_that_lives(self, tmp_path: Path) -> None:
        """SIGKILL in the middle: the target is untouched; a later writer removes that file and no other."""
        path = tmp_path / "a"
        path.write_bytes(OLD)
        program = (
            "import sys, time; from openaiasync.storage.atomic import AtomicFile; "
            "file = AtomicFile.open(sys.argv[1]); file.write(b'half'); print('ready', flush=True); time.sleep(60)"
        )
        killed = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        assert killed.stdout is not None
        killed.stdout.readline()
        killed.kill()
        killed.communicate()
        (dead,) = leftovers(tmp_path)
        living = AtomicFile.open(path)  # removes the dead one's
        (temporary,) = leftovers(tmp_path)
        assert temporary != dead
        living.write(b"mine")
        write_file(tmp_path / "b", b"other")
        assert leftovers(tmp_path) == [temporary]
        living.commit()
        assert path.read_bytes() == b"mine"
        assert sorted(os.listdir(tmp_path)) == ["a", "b"]

    def test_many_processes_write_one_file(self, tmp_path: Path) -> None:
        """Some are killed; what is there at any time is one of them whole."""
        path = tmp_path / "a"
        program = (
            "import sys, os; from openaiasync.storage.atomic import write_file\n"
            "while True: write_file(sys.argv[1], sys.argv[2].encode() * 50_000)"
        )
        workers = [subprocess.Popen([sys.executable, "-c", program, str(path), letter]) for letter in "abcd"]
        try:
            end = time.monotonic() + 20
            while not path.exists() and time.monotonic() < end:
                time.sleep(0.01)
            for number in range(200):
                content = path.read_bytes()
                assert len(content) == 50_000, len(content)
                assert len(set(content)) == 1
                if number % 50 == 49:
                    workers[number // 50].kill()
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        write_file(path, b"end")
        assert os.listdir(tmp_path) == ["a"]


def cut(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(head(Content_Type="audio/wav", Content_Length="1000000") + NEW)
    writer.close()


WAYS: dict[str, Callable[[Client, Path], Awaitable[Any]]] = {}


def way(function: Callable[[Client, Path], Awaitable[Any]]) -> Callable[[Client, Path], Awaitable[Any]]:
    WAYS[function.__name__] = function
    return function


@way
async def speech_stream(client: Client, path: Path) -> None:
    await client.text_to_speech.stream("hi", model="m", voice="alloy").stream_to_file(path)


@way
async def speech(client: Client, path: Path) -> None:
    (await client.text_to_speech("hi", model="m", voice="alloy")).write_to_file(path)


@way
async def content(client: Client, path: Path) -> None:
    await (await client.files.content("file-1")).astream_to_file(path)


@way
async def official(client: Client, path: Path) -> None:
    async with client.files.with_streaming_response.content("file-1") as response:
        await response.stream_to_file(path)


@way
async def image(client: Client, path: Path) -> None:
    await (await client.image_generate("x", model="m")).data[0].save(path)


class TestEveryDownload:
    """Each way to save an answer, with an answer that comes and with one that does not."""

    @pytest.mark.parametrize("name", WAYS)
    @pytest.mark.parametrize("fault", ["", "cut", "status", "hang"])
    def test_the_file_is_the_answer_or_what_it_was(self, tmp_path: Path, name: str, fault: str) -> None:
        """Cut, refused, cancelled: the old content stays, nothing lies beside it, no slot is held."""
        path = tmp_path / "saved"
        path.write_bytes(OLD)

        async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
            if seen.target.endswith("images/generations"):
                link = {"url": f"http://{seen.headers['host']}/image.png"}
                writer.write(json_answer({"created": 1, "data": [link]}))
            elif fault == "status":
                writer.write(json_answer({"error": {"message": "no"}}, 404))
            elif fault == "hang":
                writer.write(head(Content_Type="audio/wav", Content_Length="1000000") + NEW)
                await writer.drain()
                await asyncio.sleep(20)
            elif fault == "cut":
                writer.write(head(Content_Type="audio/wav", Content_Length="1000000") + NEW)
                writer.close()
            else:
                writer.write(answer(NEW, content_type="audio/wav"))

        async def main() -> None:
            async with scripted(script) as server, Client(api_base=server.url, max_retries=0) as client:
                if not fault:
                    await WAYS[name](client, path)
                elif fault == "hang":
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0.3):
                            await WAYS[name](client, path)
                else:
                    with pytest.raises(OpenAIError):
                        await WAYS[name](client, path)
                gc.collect()
                assert client._calls.shared.limiter.used == 0

        before = descriptors()
        run(main())
        assert path.read_bytes() == (OLD if fault else NEW)
        assert os.listdir(tmp_path) == ["saved"]
        assert descriptors() == before

    def test_the_event_loop_runs_on(self, tmp_path: Path) -> None:
        """Saving an image is not the loop's work: a target that takes nothing holds nobody else up."""
        path = tmp_path / "pipe"
        os.mkfifo(path)

        async def main() -> None:
            task = asyncio.create_task(Image(b64_json="AAAA").save(path))
            for _ in range(10):
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])

        run(main(), timeout=10)


def test_a_stream_that_is_cut_says_so(tmp_path: Path) -> None:
    """The error is the stream's, and no file is made."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        cut(seen, writer)

    async def main() -> None:
        async with scripted(script) as server, Client(api_base=server.url, max_retries=0) as client:
            with pytest.raises(IncompleteStreamError):
                await speech_stream(client, tmp_path / "a")

    run(main())
    assert os.listdir(tmp_path) == []


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    """The error names the file that was to be written, not the temporary one."""
    target = tmp_path / "none" / "a.txt"
    with pytest.raises(FileNotFoundError) as caught:
        write_file(target, b"data")
    assert caught.value.filename == str(target)


def test_discarding_a_write_that_fails_closes_the_file(tmp_path: Path) -> None:
    """Another thread waits for the reader of a full pipe: it ends with an error, and leaves no descriptor."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    before = descriptors()
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    file = AtomicFile.open(pipe)
    failures: list[OSError] = []

    def write() -> None:
        try:
            file.write(bytes(1 << 20))
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    while not file._busy.locked():
        time.sleep(0.001)
    file.discard()
    thread.join(5)
    os.close(reader)
    assert len(failures) == 1
    assert descriptors() == before
