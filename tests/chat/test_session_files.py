"""Session files under many processes, under other programs, and from strangers: no turn is lost without an error."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import run
from openaiasync import ChatSession, Client, SessionFileError
from openaiasync.chat.session_file import Journal, read_session
from scripted import scripted

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and signals as POSIX has them")
HEADER = b'{"openaiasync":"session","version":1}\n'


def record(*turns: str) -> list[dict[str, Any]]:
    return [
        {"turn": [{"role": "user", "content": text}, {"role": "assistant", "content": f"re {text}"}]} for text in turns
    ]


def said(path: Path) -> list[str]:
    return [str(turn.messages[0]["content"]) for turn in read_session(path).history.turns]


class TestManyProcesses:
    """One file, many processes: who is told that a turn is kept finds it in the file."""

    def test_a_file_that_appears_meanwhile_is_not_replaced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process creates the file, and keeps a turn, after this one has seen that the name is free."""
        path = tmp_path / "new.jsonl"
        exists = os.path.exists

        def created_after_the_look(place: Any) -> bool:
            found = exists(place)
            if not found:
                other = Journal.create(path, record("kept"))
                other.close()
            return found

        with monkeypatch.context() as patched:
            patched.setattr("openaiasync.storage.journal.os.path.exists", created_after_the_look)
            with pytest.raises(SessionFileError):
                Journal.create(path, [], replace=False)
        assert said(path) == ["kept"]
        assert os.listdir(tmp_path) == ["new.jsonl"]

    def test_one_new_name(self, tmp_path: Path) -> None:
        """Of all that make one new file at the same time, each kept turn is in it; the rest were refused."""
        program = """
import sys, time
from openaiasync import SessionFileError
from openaiasync.chat.session_file import Journal
path, name, start = sys.argv[1], sys.argv[2], float(sys.argv[3])
time.sleep(max(0.0, start - time.time()))
turn = {"turn": [{"role": "user", "content": name}, {"role": "assistant", "content": "x"}]}
while True:
    try:
        journal = Journal.create(path, [], replace=False)
        break
    except SessionFileError:
        try:
            journal, _ = Journal.open(path)
            break
        except SessionFileError:
            time.sleep(0.002)
journal.append(turn)
journal.close()
print(name)
"""
        for attempt in range(2):
            path = tmp_path / f"new{attempt}.jsonl"
            start = str(time.time() + 1.0)
            workers = [
                subprocess.Popen(
                    [sys.executable, "-c", program, str(path), str(number), start], stdout=subprocess.PIPE, text=True
                )
                for number in range(6)
            ]
            kept = [worker.communicate(timeout=50)[0].strip() for worker in workers]
            assert sorted(said(path)) == sorted(kept) == sorted(map(str, range(6)))
        assert sorted(os.listdir(tmp_path)) == ["new0.jsonl", "new1.jsonl"]

    def test_appends_and_kills(self, tmp_path: Path) -> None:
        """Many processes go on with one file, one at a time, and some are killed: no confirmed turn is missing."""
        path, logs = tmp_path / "a.jsonl", tmp_path / "logs"
        logs.mkdir()
        Journal.create(path, []).close()
        program = """
import sys, time
from openaiasync import SessionFileError
from openaiasync.chat.session_file import Journal
path, name, number = sys.argv[1], sys.argv[2], 0
while True:
    turn = {"turn": [{"role": "user", "content": f"{name}-{number}"}, {"role": "assistant", "content": "x" * 200}]}
    try:
        journal, _ = Journal.open(path)
    except SessionFileError:
        time.sleep(0.001)
        continue
    journal.append(turn)
    print(f"{name}-{number}", flush=True)
    journal.close()
    number += 1
"""

        def start(name: str) -> subprocess.Popen[bytes]:
            with open(logs / name, "wb") as out:
                return subprocess.Popen([sys.executable, "-c", program, str(path), name], stdout=out)

        workers = [start(f"w{number}") for number in range(4)]
        killed, size = 0, 0
        try:
            while killed < 5:
                while path.stat().st_size < size + 6_000:  # they get something done between two kills
                    time.sleep(0.01)
                size = path.stat().st_size
                workers[killed % 4].kill()
                workers[killed % 4].wait()
                workers[killed % 4] = start(f"k{killed}")
                killed += 1
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()
        confirmed = [line for log in logs.iterdir() for line in log.read_text().split("\n")[:-1]]
        assert len(confirmed) > 20
        assert set(confirmed) - set(said(path)) == set()
        Journal.open(path)[0].close()  # no lock outlives its process
        assert sorted(os.listdir(tmp_path)) == ["a.jsonl", "logs"]

    def test_a_replaced_file_was_locked_by_its_replacer(self, tmp_path: Path) -> None:
        """While `save` writes a file anew nobody can append to the old one; afterwards the new one is held."""
        path = tmp_path / "a.jsonl"
        Journal.create(path, record("1")).close()
        program = """
import sys
from openaiasync import SessionFileError
from openaiasync.chat.session_file import Journal
opened = 0
for _ in range(1500):
    try:
        journal, saved = Journal.open(sys.argv[1])
    except SessionFileError as error:
        assert "in use" in str(error), error
        continue
    journal.append({"turn": [{"role": "user", "content": "late"}, {"role": "assistant", "content": "x"}]})
    opened += 1
    journal.close()
print(opened)
"""
        other = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        saves = 0
        while other.poll() is None:
            try:
                journal = Journal.create(path, record("1", "2"))
            except SessionFileError:
                continue
            before = said(path)
            journal.append(*record("3"))
            assert before == ["1", "2"]
            assert said(path) == ["1", "2", "3"]
            journal.close()
            saves += 1
        assert int(other.communicate()[0]) >= 0
        assert other.returncode == 0
        assert saves

    def test_a_forked_child_does_not_write(self, tmp_path: Path) -> None:
        """It has the descriptor, but the file is its parent's; leaving it open keeps nobody out."""
        path = tmp_path / "a.jsonl"
        program = """
import os, sys, time
from openaiasync import SessionFileError
from openaiasync.chat.session_file import Journal
journal = Journal.create(sys.argv[1], [])
child = os.fork()
turn = {"turn": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "x"}]}
if not child:
    try:
        journal.append(turn)
    except SessionFileError as error:
        assert "forked" in str(error)
        del journal
        time.sleep(1)
        os._exit(3)
    os._exit(0)
time.sleep(0.3)
try:
    Journal.open(sys.argv[1])
except SessionFileError:
    print("held")
journal.append(turn)
journal.close()
Journal.open(sys.argv[1])[0].close()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
        done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, timeout=50, check=True)
        assert done.stdout.split() == [b"held", b"3"]
        assert said(path) == ["x"]


async def talked(session: ChatSession, *texts: str) -> None:
    for text in texts:
        await session.say(text)


class TestOtherPrograms:
    """Changes to the file of a running session are noticed at the next turn."""

    @pytest.mark.parametrize("how", ["removed", "emptied", "removed and made empty", "its folder moved back"])
    def test_a_file_that_has_gone_is_written_anew(self, tmp_path: Path, how: str) -> None:
        """With all that was said, and held again."""
        path = tmp_path / "folder" / "a.jsonl"
        path.parent.mkdir()

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url, model="m") as client:
                session = client.chat.session()
                session.save(path)
                await talked(session, "1", "2")
                if how == "emptied":
                    os.truncate(path, 0)
                else:
                    path.unlink()
                    if how == "removed and made empty":
                        path.touch()
                await talked(session, "3")
                assert said(path) == ["1", "2", "3"]
                with pytest.raises(SessionFileError, match="in use"):
                    Journal.open(path)
                await talked(session, "4")
                session.close()
                assert said(path) == ["1", "2", "3", "4"]

        run(main())

    @pytest.mark.parametrize("how", ["replaced", "directory", "link", "cut", "written to", "the folder is gone"])
    def test_what_is_not_ours_raises(self, tmp_path: Path, how: str) -> None:
        """The reply is with the error, the turn is kept, and `save` writes all of it."""
        path = tmp_path / "folder" / "a.jsonl"
        path.parent.mkdir()

        def change() -> bytes:
            content = path.read_bytes()
            if how == "replaced":
                (tmp_path / "b").write_bytes(content + b"\n")
                os.replace(tmp_path / "b", path)
            elif how == "directory":
                path.unlink()
                path.mkdir()
            elif how == "link":
                path.unlink()
                (tmp_path / "other").write_bytes(b"mine")
                path.symlink_to(tmp_path / "other")
            elif how == "cut":
                os.truncate(path, len(content) - 5)
            elif how == "written to":
                with open(path, "ab") as file:
                    file.write(b"{}\n")
            else:
                path.unlink()
                path.parent.rmdir()
            return path.read_bytes() if path.is_file() else b""

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url, model="m") as client:
                session = client.chat.session()
                session.save(path)
                await talked(session, "1")
                there = change()
                for number in ("2", "3"):
                    with pytest.raises(SessionFileError, match=r"cannot write .*a\.jsonl") as caught:
                        await session.say(number)
                    assert getattr(caught.value, "partial").text == "Hello."  # noqa: B009 (not declared)
                assert not path.is_file() or path.read_bytes() == there
                assert len(session.messages) == 6
                session.save(tmp_path / "c.jsonl")
                await talked(session, "4")
                assert said(tmp_path / "c.jsonl") == ["1", "2", "3", "4"]
                session.close()

        run(main())

    def test_saving_to_the_same_path_takes_it_back(self, tmp_path: Path) -> None:
        """The caller says which of the two is right."""
        path = tmp_path / "a.jsonl"

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url, model="m") as client:
                session = client.chat.session()
                session.save(path)
                await talked(session, "1")
                (tmp_path / "b").write_bytes(HEADER)
                os.replace(tmp_path / "b", path)
                with pytest.raises(SessionFileError, match=r"replaced by another program; save\(\) the session to"):
                    await session.say("2")
                session.save(path)
                await talked(session, "3")
                assert said(path) == ["1", "2", "3"]
                session.close()

        run(main())

    def test_a_full_disk(self, tmp_path: Path) -> None:
        """Half a record is taken back; what could not be written goes before the next."""
        path = tmp_path / "a.jsonl"
        Journal.create(path, record("1")).close()
        journal, _ = Journal.open(path)
        size = path.stat().st_size
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, hard))
        try:
            for _ in range(2):
                with pytest.raises(SessionFileError, match="File too large; free some space"):
                    journal.append(*record("2" * 100))
                assert path.stat().st_size == size
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        journal.append(*record("3"))
        journal.close()
        assert said(path) == ["1", "2" * 100, "2" * 100, "3"]

    def test_a_file_made_read_only_is_still_written_to(self, tmp_path: Path) -> None:
        """It was opened before; what is in it is what was said."""
        path = tmp_path / "a.jsonl"
        journal = Journal.create(path, [])
        path.chmod(0o400)
        journal.append(*record("1"))
        journal.close()
        assert said(path) == ["1"]

    def test_no_replacing_where_it_is_not_wanted(self, tmp_path: Path) -> None:
        """``save(path, replace=False)`` makes a new file or raises."""
        path = tmp_path / "a.jsonl"
        Journal.create(path, record("1")).close()
        with pytest.raises(SessionFileError, match="exists: load"):
            Journal.create(path, [], replace=False)
        assert said(path) == ["1"]


class TestForeignFiles:
    """A file may come from anywhere: one error that names file and line, no hang, no option of a call."""

    @pytest.mark.parametrize(
        "name",
        [
            "extra_headers", "extra_body", "extra_query", "timeout", "deadline", "max_retries", "idempotency_key",
            "stream", "n", "messages", "tools", "permit", "on_tool_error", "into", "max_rounds", "unheard_of",
        ],
    )  # fmt: skip
    def test_params_set_no_options(self, tmp_path: Path, name: str) -> None:
        """Header fields, bodies, timeouts and turns' options are never taken from a file."""
        path = tmp_path / "a.jsonl"
        path.write_bytes(
            HEADER + json.dumps({"set": {"params": {"temperature": 0, name: {"Authorization": "x"}}}}).encode()
        )

        async def main() -> None:
            async with scripted() as server, Client(api_base=server.url, model="m") as client:
                with pytest.raises(SessionFileError, match=rf"a.jsonl, line 2: params (sets|has) '{name}'"):
                    client.chat.load_session(path)
                assert not server.seen

        run(main())

    @pytest.mark.parametrize(
        "line",
        [
            '{"turn": [{"role": ["user"], "content": "x"}]}',
            '{"turn": [{"role": {"a": 1}, "content": "x"}]}',
            '{"turn": [{"role": "user", "content": [1, 2]}]}',
            '{"turn": [{"role": "user", "content": [[1]]}]}',
            '{"turn": [{"role": "user", "content": 3}]}',
            '{"turn": [{"role": "user", "content": "x"}, {"role": "tool", "tool_call_id": ["a"], "content": ""}]}',
            '{"turn": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [{"id": ["a"]}]}]}',
            '{"turn": [{"role": "user", "content": "x"}, {"role": "assistant", "tool_calls": [1]}]}',
            '{"turn": [{"role": "assistant", "tool_calls": [{"id": "a", "function": 1}]}]}',
            '{"turn": [1]}',
            '{"turn": [{"role": "user", "content": "x"}], "model": ["m"]}',
            '{"turn": [{"role": "user", "content": "x"}], "finish_reason": {}}',
            '{"set": {"model": ["m"]}}',
            '{"set": {"head": [{"role": ["system"], "content": "x"}]}}',
            '{"set": []}',
            '{"usage": []}',
            '{"usage": {"prompt_tokens": "x"}}',
            '{"usage": {"prompt_tokens": -5}}',
            '{"usage": {"cost": -1e9}}',
            '{"usage": {"completion_tokens": %s}}' % ("9" * 400),
            '{"usage": {"cost": 1e300}}',
            '{"keep": 99999999999999999999999999}',
            '{"summary": {"turns": [], "text": ""}}',
            '{"openaiasync":"session","version":1}',
            "[1, 2]",
            "nonsense",
            "\x00\x00\x00",
            "[" * 100_000,
        ],
    )
    def test_a_wrong_line(self, tmp_path: Path, line: str) -> None:
        """Wherever it stands; the session that is asked to load it stays what it was."""
        path = tmp_path / "a.jsonl"
        path.write_bytes(HEADER + b"\n" + line.encode() + b"\n" + b"{}\n")
        content = path.read_bytes()
        for act in (read_session, Journal.open):
            if line.startswith('{"keep"'):
                act(path)  # more turns than there are: nothing to take back
                continue
            with pytest.raises(SessionFileError, match=r"a.jsonl, line 3: ") as caught:
                act(path)
            assert len(str(caught.value)) < 600
        assert path.read_bytes() == content

    @pytest.mark.parametrize("tail", [b"\n\n", b"\n", b"  \n\t\n", b"\r\n\r\n"])
    def test_blank_lines_mean_nothing(self, tmp_path: Path, tail: bytes) -> None:
        """As an editor leaves them; going on is going on."""
        path = tmp_path / "a.jsonl"
        path.write_bytes(HEADER + json.dumps(record("1")[0]).encode() + b"\n" + tail)
        journal, _ = Journal.open(path)
        journal.append(*record("2"))
        journal.close()
        assert said(path) == ["1", "2"]

    @pytest.mark.parametrize("version", ["2", "0", "1.5", '"1"', "[1]", "null", "1e400", "true"])
    def test_another_version(self, tmp_path: Path, version: str) -> None:
        """It says so, or that it is not a session."""
        path = tmp_path / "a.jsonl"
        path.write_bytes(b'{"openaiasync":"session","version":%s}\n' % version.encode())
        with pytest.raises(SessionFileError, match=r"version|is not a saved session"):
            read_session(path)

    @pytest.mark.parametrize(
        "what", ["pipe", "/dev/zero", "/dev/null", "directory", "sparse", "one line", "nul", "socket"]
    )
    def test_what_is_not_a_file_of_a_session(self, tmp_path: Path, what: str) -> None:
        """No hang, no memory; in every method that takes a path."""
        path = tmp_path / "a"
        given: Any = path
        if what == "pipe":
            os.mkfifo(path)
        elif what.startswith("/dev"):
            given = what
        elif what == "directory":
            path.mkdir()
        elif what == "sparse":
            path.write_bytes(HEADER)
            os.truncate(path, 3_000_000_000)
        elif what == "one line":
            path.write_bytes(b"x" * 50_000_000)
        elif what == "nul":
            given = f"{path}\0x"
        else:
            import socket

            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(str(path))
        began = time.monotonic()
        for act in (read_session, Journal.open, lambda place: Journal.create(place, [])):
            if what == "sparse" and act not in (read_session, Journal.open):
                break  # it begins as a session does, and may be replaced
            with pytest.raises(SessionFileError):
                act(given)
        assert time.monotonic() - began < 10


def test_a_session_goes_on_under_a_storm(tmp_path: Path) -> None:
    """Removed again and again while turns go on: at the end the file holds every turn."""
    path = tmp_path / "a.jsonl"

    async def main() -> None:
        async with scripted() as server, Client(api_base=server.url, model="m") as client:
            session = client.chat.session()
            session.save(path)

            async def remove() -> None:
                while True:
                    await asyncio.sleep(0.003)
                    path.unlink(missing_ok=True)

            task = asyncio.create_task(remove())
            await talked(session, *map(str, range(60)))
            task.cancel()
            await asyncio.wait([task])
            await talked(session, "60")
            session.close()
            assert said(path) == [str(number) for number in range(61)]

    run(main())
