"""Sessions in files: nothing finished is lost, whatever is cut, killed, full, locked, or not a session at all."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openaiasync import OpenAIError
from openaiasync.chat import session_file as store
from openaiasync.chat.context_window import HistorySummary
from openaiasync.chat.history import Turn
from openaiasync.chat.session_file import Journal, Saved, SessionFileError, read_session, turn_record
from openaiasync.chat.usage import SessionUsage


def turn(text: str = "hi") -> Turn:
    return Turn(({"role": "user", "content": text}, {"role": "assistant", "content": "ho"}), "m", "stop")


def state(saved: Saved) -> tuple[Any, ...]:
    turns = [tuple(turn) for turn in saved.history.turns]
    return saved.history.head, turns, saved.model, saved.params, saved.tools, saved.usage, saved.summary


def a_session() -> Saved:
    saved = Saved()
    for record in (
        {"set": {"head": [{"role": "system", "content": "sé"}], "model": "m", "params": {"seed": 1}, "tools": ["f"]}},
        turn_record(turn("1")),
        turn_record(turn("2")),
        {"summary": {"turns": 1, "text": "t"}},
        {"usage": {"requests": 2, "prompt_tokens": 5, "cost": 0.5}},
    ):
        saved.apply(record)
    return saved


class TestRoundTrip:
    """What was written is what is read."""

    def test_everything_comes_back(self, tmp_path: Path) -> None:
        """Messages, system prompt, model, parameters, names of tools, usage, summary, finish reasons."""
        before = a_session()
        Journal.create(tmp_path / "a.jsonl", before.records()).close()
        after = read_session(tmp_path / "a.jsonl")
        assert state(after) == state(before)
        assert after.usage == SessionUsage(requests=2, prompt_tokens=5, cost=0.5)
        assert after.history.turns[1].finish_reason == "stop"
        assert after.summary == HistorySummary(1, "t")

    def test_every_line_is_json_and_the_first_says_what_it_is(self, tmp_path: Path) -> None:
        """Other programs can read it line by line."""
        Journal.create(tmp_path / "a.jsonl", a_session().records()).close()
        first, *rest = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
        assert json.loads(first) == {"openaiasync": "session", "version": 1}
        assert all(isinstance(json.loads(line), dict) for line in rest)

    def test_records_are_appended_and_undone(self, tmp_path: Path) -> None:
        """Turns, fewer turns, a turn in another's place; each is one line more."""
        path = tmp_path / "a.jsonl"
        journal = Journal.create(path, a_session().records())
        lines = len(path.read_bytes().splitlines())
        journal.append(turn_record(turn("3")))
        journal.append({"keep": 2})
        journal.append(turn_record(turn("2b"), keep=1))
        assert len(path.read_bytes().splitlines()) == lines + 3
        assert [one.messages[0]["content"] for one in read_session(path).history.turns] == ["1", "2b"]
        journal.append({"keep": 0})
        assert read_session(path).summary is None  # it told of turns that are gone
        journal.close()

    def test_a_journal_goes_on_with_a_file(self, tmp_path: Path) -> None:
        """Opening reads the session and appends to it."""
        path = tmp_path / "a.jsonl"
        Journal.create(path, a_session().records()).close()
        journal, saved = Journal.open(path, fsync=True)
        assert state(saved) == state(a_session())
        journal.append(turn_record(turn("3")))
        journal.sync()
        journal.close()
        assert len(read_session(path).history) == 3


class TestTornFiles:
    """A process may die at any byte."""

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_cut_anywhere_whole_records_stay(self, tmp_path: Path, data: st.DataObject) -> None:
        """What is whole is read; going on repairs the end, and nothing of what follows is lost."""
        path = tmp_path / "a.jsonl"
        Journal.create(path, a_session().records()).close()
        raw = path.read_bytes()
        first = raw.index(b"\n")
        cut = data.draw(st.integers(first, len(raw)))
        tail = data.draw(st.sampled_from([b"", b"\0\0\0", b"\xff{"])) if raw[:cut].endswith(b"\n") else b""
        path.write_bytes(raw[:cut] + tail)
        whole = read_session(path)
        # A record whose line lacks nothing but its end is whole.
        lines = [line for line in raw[:cut].split(b"\n") if line in raw.split(b"\n") and line]
        assert len(whole.history) == sum(b'"turn"' in line for line in lines)
        journal, saved = Journal.open(path)
        assert state(saved) == state(whole)
        journal.append(turn_record(turn("after")))
        journal.close()
        after = read_session(path)
        assert list(after.history.turns) == [*whole.history.turns, turn("after")]

    def test_damage_in_the_middle_is_told_with_its_line(self, tmp_path: Path) -> None:
        """Only the last line can be torn: what is broken before was not broken by dying."""
        path = tmp_path / "a.jsonl"
        Journal.create(path, a_session().records()).close()
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:2], b'{"turn": [\n', *lines[3:]]))
        with pytest.raises(SessionFileError, match=r"a\.jsonl, line 3: not a JSON object; the file is damaged"):
            read_session(path)

    @pytest.mark.parametrize(
        ("record", "complaint"),
        [
            ({"turn": [{"role": "tool", "tool_call_id": "x", "content": ""}]}, "answers the tool call 'x'"),
            ({"turn": "x"}, "list expected"),
            ({"turn": []}, "without messages"),
            ({"keep": -1}, "int expected"),
            ({"keep": True}, "int expected"),
            ({"set": {"model": 3}}, "str expected"),
            ({"set": {"tools": [3]}}, "str expected"),
            ({"summary": {"turns": 1}}, "str expected"),
            ({"usage": {"requests": "many"}}, "usage: "),
        ],
    )
    def test_records_that_cannot_be_are_refused(self, tmp_path: Path, record: Any, complaint: str) -> None:
        """A file is no way around the checks."""
        path = tmp_path / "a.jsonl"
        path.write_text('{"openaiasync":"session","version":1}\n' + json.dumps(record) + "\n")
        with pytest.raises(SessionFileError, match=f"line 2: .*{complaint}"):
            read_session(path)

    def test_what_newer_writers_add_is_left_alone(self, tmp_path: Path) -> None:
        """Unknown keys of a record mean nothing here."""
        path = tmp_path / "a.jsonl"
        path.write_text('{"openaiasync":"session","version":1,"by":"x"}\n{"colour":"red"}\n')
        assert len(read_session(path).history) == 0

    def test_a_killed_process_loses_no_finished_turn(self, tmp_path: Path) -> None:
        """SIGKILL right after `append` returned: the record is in the file."""
        path = tmp_path / "a.jsonl"
        program = """
import os, signal, sys
from openaiasync.chat.history import Turn
from openaiasync.chat.session_file import Journal, turn_record
journal = Journal.create(sys.argv[1], [])
for number in range(3):
    messages = ({"role": "user", "content": str(number)}, {"role": "assistant", "content": "x" * 100_000})
    journal.append(turn_record(Turn(messages)))
os.kill(os.getpid(), signal.SIGKILL)
"""
        if not hasattr(signal, "SIGKILL"):
            pytest.skip("this system has no SIGKILL")
        done = subprocess.run([sys.executable, "-c", program, str(path)], timeout=50, check=False)
        assert done.returncode == -signal.SIGKILL
        journal, saved = Journal.open(path)  # its lock died with it
        journal.close()
        assert [one.messages[0]["content"] for one in saved.history.turns] == ["0", "1", "2"]


class TestOtherFiles:
    """A file that is not a session is neither read nor overwritten."""

    @pytest.mark.parametrize(
        "content",
        [b"", b"\n", b"hello", b"{}", b'[{"role":"user"}]\n', b'{"messages":[]}\n', b"\x80\x00" * 500, b"[" * 99],
    )
    def test_another_kind_is_refused(self, tmp_path: Path, content: bytes) -> None:
        """The error shows the first line that a session has."""
        path = tmp_path / "notes.jsonl"
        path.write_bytes(content)
        for act in (read_session, Journal.open):
            with pytest.raises(
                SessionFileError, match=r'notes.jsonl is not a saved session: its first line is not {"open'
            ):
                act(path)
        assert path.read_bytes() == content
        if content:
            with pytest.raises(SessionFileError, match="exists and is not a saved session: remove it, or"):
                Journal.create(path, [])
            assert path.read_bytes() == content
            assert os.listdir(tmp_path) == ["notes.jsonl"]

    def test_an_empty_file_is_written_to(self, tmp_path: Path) -> None:
        """As `tempfile` makes them: there is nothing to lose."""
        (tmp_path / "a").write_bytes(b"")
        Journal.create(tmp_path / "a", []).close()
        assert len(read_session(tmp_path / "a").history) == 0

    def test_what_is_no_regular_file_is_left_alone(self, tmp_path: Path) -> None:
        """A device or a pipe would be gone for good."""
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes with names here")
        os.mkfifo(tmp_path / "pipe")
        for path in (tmp_path / "pipe", tmp_path):
            with pytest.raises(SessionFileError, match=r"regular file|directory"):
                Journal.create(path, [])
        assert os.listdir(tmp_path) == ["pipe"]

    def test_new_files_are_the_owners_and_old_ones_stay_as_open_as_they_were(self, tmp_path: Path) -> None:
        """A link stays a link."""
        if os.name != "posix":
            pytest.skip("no such modes here")
        path, link = tmp_path / "a", tmp_path / "link"
        Journal.create(path, []).close()
        assert path.stat().st_mode & 0o777 == 0o600
        path.chmod(0o644)
        link.symlink_to(path)
        Journal.create(link, a_session().records()).close()
        assert link.is_symlink()
        assert path.stat().st_mode & 0o777 == 0o644
        assert len(read_session(path).history) == 2

    def test_a_newer_format_is_refused(self, tmp_path: Path) -> None:
        """It says what to update."""
        (tmp_path / "a").write_text('{"openaiasync":"session","version":2}\n')
        with pytest.raises(
            SessionFileError, match=r"version 2 of the format, and this library reads version 1: update openaiasync"
        ):
            read_session(tmp_path / "a")

    def test_paths_that_cannot_be_used_say_what_to_change(self, tmp_path: Path) -> None:
        """No folder, a folder, no file; as `OSError` and as the library's own."""
        with pytest.raises(
            SessionFileError, match=r"cannot write .*No such file.*; give a path in a folder that exists"
        ):
            Journal.create(tmp_path / "no" / "a.jsonl", [])
        with pytest.raises(SessionFileError, match=r"cannot read .*; give the path of a saved session"):
            read_session(tmp_path / "a.jsonl")
        with pytest.raises(OSError, match=r"cannot open .*; give the path of a saved session") as caught:
            Journal.open(tmp_path / "a.jsonl")
        assert isinstance(caught.value, OpenAIError)
        with pytest.raises(SessionFileError, match=r"; give (the path of a file|a path that this user may access)"):
            read_session(tmp_path)

    def test_what_json_cannot_hold_is_refused(self, tmp_path: Path) -> None:
        """Nothing is written then."""
        with pytest.raises(SessionFileError, match="cannot be written as JSON"):
            Journal.create(tmp_path / "a", [{"set": {"params": {"x": object()}}}])
        assert not (tmp_path / "a").exists()


class TestLocks:
    """Two sessions never append to one file."""

    def test_the_second_is_refused(self, tmp_path: Path) -> None:
        """Whether it goes on with the file or writes it anew; reading is always possible."""
        path = tmp_path / "a.jsonl"
        journal = Journal.create(path, a_session().records())
        for act in (lambda: Journal.open(path), lambda: Journal.create(path, [])):
            with pytest.raises(SessionFileError, match=r"is in use by another session: close it"):
                act()
        assert state(read_session(path)) == state(a_session())
        journal.close()
        Journal.open(path)[0].close()

    def test_a_journal_that_nobody_holds_lets_go(self, tmp_path: Path) -> None:
        """A forgotten session blocks nobody."""
        path = tmp_path / "a.jsonl"
        Journal.create(path, [])  # dropped at once
        gc.collect()
        Journal.open(path)[0].close()

    def test_other_processes_are_refused_too(self, tmp_path: Path) -> None:
        """The lock is the file's, not the process's."""
        path = tmp_path / "a.jsonl"
        journal = Journal.create(path, [])
        program = "import sys; from openaiasync.chat.session_file import Journal; Journal.open(sys.argv[1])"
        done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, timeout=50, check=False)
        journal.close()
        assert done.returncode == 1
        assert b"is in use by another session" in done.stderr

    def test_a_closed_journal_writes_nothing(self, tmp_path: Path) -> None:
        """It says so; closing twice is closing once."""
        journal = Journal.create(tmp_path / "a.jsonl", [])
        journal.close()
        journal.close()
        with pytest.raises(SessionFileError, match=r"a\.jsonl was closed"):
            journal.append({"keep": 0})

    def test_a_file_replaced_meanwhile_is_not_written_to(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Records would go to a file that has no name any more."""
        path = tmp_path / "a.jsonl"
        Journal.create(path, []).close()
        opened = os.open

        def replaced(name: Any, flags: int) -> int:
            descriptor = opened(name, flags)
            other = tmp_path / "b.jsonl"
            other.write_bytes(path.read_bytes())
            os.replace(other, path)
            return descriptor

        monkeypatch.setattr(os, "open", replaced)
        with pytest.raises(SessionFileError, match="in use by another"):
            Journal.open(path)


class TestFullDisks:
    """Writing may fail and work again later."""

    @pytest.mark.parametrize("written", [0, 10])
    def test_records_are_kept_until_they_can_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
    ) -> None:
        """Half a record is taken back; the next append writes both."""
        path = tmp_path / "a.jsonl"
        journal = Journal.create(path, [])
        size = path.stat().st_size
        write = os.write

        def full(descriptor: int, data: Any) -> int:
            if written and len(data) > 60:
                return write(descriptor, data[:written])
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(store.os, "write", full)
            with pytest.raises(SessionFileError, match=r"cannot write .*No space left.*; free some space"):
                journal.append(turn_record(turn("1" * 30)))
        assert path.stat().st_size == size
        journal.append(turn_record(turn("2")))
        journal.close()
        assert [one.messages[0]["content"] for one in read_session(path).history.turns] == ["1" * 30, "2"]

    def test_a_file_that_cannot_be_replaced_stays(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Saving anew leaves the old file or the new one, and no other."""
        path = tmp_path / "a.jsonl"
        Journal.create(path, a_session().records()).close()
        before = path.read_bytes()

        def fails(*_: Any) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "replace", fails)
        with pytest.raises(SessionFileError, match="Input/output error"):
            Journal.create(path, [])
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["a.jsonl"]
