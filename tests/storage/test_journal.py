"""Files of records: appended by one holder, resumed after a torn end, noticed when others touch them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import run
from cputime import assert_linear
from openaiasync.storage.disk import FileInUseError, try_lock
from openaiasync.storage.journal import AppendFile, FileChangedError, FileGoneError, end_of_lines
from openaiasync.storage.threads import in_thread


def anything(first: bytes) -> None:
    """Let any file be replaced."""


def made(path: Path, data: bytes = b"") -> AppendFile:
    return AppendFile.create(path, data, anything, sync=False)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"a\n", b"a\n"),
        (b"a\nb", b"a\n"),
        (b"torn", b""),
        (b"a\n" + b"x" * 200_000, b"a\n"),
        (b"x" * 200_000 + b"\n", b"x" * 200_000 + b"\n"),
        (b"x" * 65_535 + b"\n" + b"y" * 65_536, b"x" * 65_535 + b"\n"),
        (b"\n" * 5 + b'{"half', b"\n" * 5),
    ],
)
def test_resuming_cuts_a_torn_line(tmp_path: Path, before: bytes, after: bytes) -> None:
    """Whatever was appended without its end is gone; the next record begins on a line of its own, at `size`."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(before)
    file = AppendFile.resume(path)
    assert (file.size, path.read_bytes()) == (len(after), after)
    file.append(b"next\n")
    assert path.read_bytes() == after + b"next\n"
    assert file.size == len(after) + 5
    file.close()


def test_the_end_is_found_without_reading_the_file(tmp_path: Path) -> None:
    """Only the end of a large file is read; a file that is one endless line takes time in proportion to its size."""
    path = tmp_path / "large"
    with path.open("wb") as sparse:
        sparse.truncate(1 << 40)  # a terabyte of nothing: reading it would take an hour
        sparse.seek(0, os.SEEK_END)
        sparse.write(b"\nlast")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert end_of_lines(descriptor) == (1 << 40) + 1
    finally:
        os.close(descriptor)

    def endless(size: int) -> None:
        path.write_bytes(b"x" * size)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            assert end_of_lines(descriptor) == 0
        finally:
            os.close(descriptor)

    assert_linear(endless, 4_000_000)


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    """A second one is refused, in this process and in another, until the first lets go."""
    path = tmp_path / "a.jsonl"
    file = made(path, b"a\n")
    for opening in (AppendFile.resume, made):
        with pytest.raises(FileInUseError):
            opening(path)
    probe = subprocess.run(
        [sys.executable, "-c", f"from openaiasync.storage.journal import AppendFile as A; A.resume({str(path)!r})"],
        capture_output=True,
        text=True,
    )
    assert "FileInUseError" in probe.stderr
    file.close()
    AppendFile.resume(path).close()
    assert path.read_bytes() == b"a\n"


def test_a_killed_holder_frees_its_lock_and_its_half_record(tmp_path: Path) -> None:
    """A process that dies in the middle of a record leaves a file that the next one continues."""
    path = tmp_path / "a.jsonl"
    made(path, b"a\n").close()
    code = (
        "import os, sys, time; from openaiasync.storage.journal import AppendFile as A\n"
        f"file = A.resume({str(path)!r}); file.append(b'b\\n'); os.write(file._locked.descriptor, b'ha')\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
    file = AppendFile.resume(path)
    assert path.read_bytes() == b"a\nb\n"
    file.close()


def test_what_others_do_to_the_file_is_noticed(tmp_path: Path) -> None:
    """Nothing is appended to a file that was removed, emptied, replaced, cut or written to by another program."""
    path = tmp_path / "a.jsonl"
    for harm, error in (
        (lambda: path.unlink(), FileGoneError),
        (lambda: path.write_bytes(b""), FileGoneError),
        (lambda: path.write_bytes(b"a"), FileChangedError),
        (lambda: path.write_bytes(b"a\nforeign\n"), FileChangedError),
        (lambda: path.rename(tmp_path / "b") and path.write_bytes(b"a\n"), FileChangedError),
    ):
        path.unlink(missing_ok=True)
        file = made(path, b"a\n")
        assert file.intact
        harm()
        with pytest.raises(error):
            file.append(b"b\n")
        assert not file.intact
        if error is FileGoneError:
            file.rewrite(b"a\nb\n")
            assert path.read_bytes() == b"a\nb\n"
            assert file.intact
        file.close()
        with pytest.raises(OSError, match="the file was closed"):
            file.append(b"c\n")


def test_the_disk_is_awaited_in_another_thread(tmp_path: Path) -> None:
    """`sync` may run beside appends in the event loop's thread."""
    file = made(tmp_path / "a.jsonl")

    async def main() -> None:
        for number in range(20):
            waiting = asyncio.ensure_future(in_thread(file.sync))
            await asyncio.sleep(0)
            file.append(b"%d\n" % number)
            await waiting

    run(main())
    assert (tmp_path / "a.jsonl").read_bytes() == b"".join(b"%d\n" % number for number in range(20))
    file.close()


def test_a_lock_is_tried(tmp_path: Path) -> None:
    """`try_lock` tells a free file from a held one."""
    one, other = (os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT) for _ in range(2))
    try:
        assert try_lock(one) is True
        assert try_lock(other) is False
    finally:
        os.close(one)
        os.close(other)
