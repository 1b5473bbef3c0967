"""The log of the command line: its contents, mode and search, conversations that continue, and its failures."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from openaiasync.cli import call_log
from openaiasync.cli.call_log import CallLog, LogEntry
from openaiasync.cli.console import CommandError
from openaiasync.server import ServerThread

from .command import Answer, call, inside, one_line, spied
from .test_chat import chunk, streamed
from .test_chat_options import PNG, anything

pytestmark = pytest.mark.commands

MODEL = ("-m", "demo-chat")


@pytest.fixture(autouse=True)
def log_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(call_log, "_warned", [])
    return tmp_path / "state" / "openaiasync" / "logs.db"


def logged(*arguments: str) -> list[dict[str, Any]]:
    """The calls of the log, the last one first."""
    done = inside("logs", *(arguments or ("list", "-n", "0")), "--json")
    assert done.returncode == 0, done.stderr
    calls: list[dict[str, Any]] = json.loads(done.stdout)
    return calls


def test_a_call_is_logged(server: ServerThread, log_file: Path, tmp_path: Path) -> None:
    """Prompt, answer, model, server, parameters, usage, and the fragments by their hash; for its owner only."""
    (tmp_path / "a.txt").write_text("A text.", encoding="utf-8")
    options = ("-s", "Be brief.", "-o", "temperature", "0", "-f", str(tmp_path / "a.txt"))
    done = inside("chat", "say one two", *options, *MODEL, "--base-url", server.base_url)
    assert (done.returncode, done.stderr) == (0, "")
    (entry,) = logged()
    assert (entry["command"], entry["model"], entry["base_url"]) == ("chat", "demo-chat", server.base_url)
    assert (entry["system"], entry["prompt"], entry["answer"]) == ("Be brief.", "say one two", done.stdout.strip())
    assert entry["options"] == {"temperature": 0}
    assert entry["usage"] is None or entry["usage"]["completion_tokens"] > 0
    digest = hashlib.sha256(b"A text.").hexdigest()
    assert entry["fragments"] == [{"source": str(tmp_path / "a.txt"), "hash": digest}]
    if sys.platform != "win32":
        assert {stat.S_IMODE(path.stat().st_mode) for path in log_file.parent.glob("logs.db*")} == {0o600}
    assert f"{log_file}\n" == inside("logs", "path").stdout


def test_every_kind_of_call_is_logged(server: ServerThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures, sound and responses, too; `logs` alone lists, with the beginning of each prompt."""
    monkeypatch.chdir(tmp_path)
    where = ("--base-url", server.base_url)
    for command in (
        ["image", "a red circle", "-o", "a.png"],
        ["speak", "Good morning", "-o", "a.wav"],
        ["transcribe", "a.wav"],
        ["responses", "say yes", *MODEL],
        ["chat", "say no", *MODEL],
    ):
        assert inside(*command, *where).returncode == 0
    found = [(one["command"], one["prompt"], one["answer"], one["files"]) for one in reversed(logged())]
    assert found == [
        ("image", "a red circle", "", ["a.png"]),
        ("speak", "Good morning", "", ["a.wav"]),
        ("transcribe", "", "Good morning\n", ["a.wav"]),
        ("responses", "say yes", "yes", []),
        ("chat", "say no", "no", []),
    ]
    listed = inside("logs").stdout.splitlines()
    assert [line.split("\t")[2:] for line in listed[:2]] == [["demo-chat", "say no"], ["demo-chat", "say yes"]]
    assert len(inside("logs", "-n", "2").stdout.splitlines()) == 2
    assert len(inside("logs", "list", "-m", "demo-chat").stdout.splitlines()) == 2


def test_secrets_are_not_in_the_log(log_file: Path) -> None:
    """Keys and header fields of the command, and what looks like a credential, wherever they stand."""
    key, field = "my-private-0123", "field-value-4567"
    token, by_name = "ghp_0123456789abcdefghijABCDEFGHIJ", "plain words 8901"
    text = f"My key is {key} and {token}, the field {field}."
    with spied(anything(f"You said {key}, {token}, {field}.")) as (server, _):
        secret = ("--api-key", key, "--header", f"X-Thing: {field}", "--base-url", server.base_url)
        more = {"note": key, "api_key": by_name, "tools": [{"type": "mcp", "headers": {"X-Pass": by_name}}]}
        body = ("--extra-body", json.dumps(more), "-o", "user", field)
        assert inside("chat", text, "-s", text, *secret, *body, *MODEL).returncode == 0
        assert inside("chat", "again", *secret, "-m", key).returncode == 0
    with sqlite3.connect(log_file) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    written = log_file.read_bytes()
    for one in (key, field, token, by_name):
        assert one.encode() not in written
    _, entry = logged()
    assert entry["prompt"].startswith("My key is ")
    assert entry["answer"].startswith("You said ")


@pytest.mark.parametrize("fts", [True, False])
def test_search(server: ServerThread, monkeypatch: pytest.MonkeyPatch, fts: bool) -> None:
    """All words have to occur, in any order and case; quotes and signs are text; it works without FTS5, too."""
    if not fts:
        monkeypatch.setattr(call_log, "has_fts5", lambda database: False)
    where = (*MODEL, "--base-url", server.base_url)
    for text in ("say The Quick fox", "say 100% sure", 'say "quoted" OR not', "say Grüße"):
        inside("chat", text, *where)

    def prompts(*words: str) -> list[str]:
        return [one["prompt"] for one in logged("search", *words)]

    assert prompts("fox", "quick") == ["say The Quick fox"]
    assert prompts("say")[-1] == "say The Quick fox"
    assert len(prompts("say")) == 4
    assert len(prompts("say", "-n", "2")) == 2
    assert prompts("100%") == ["say 100% sure"]
    assert prompts('"quoted" OR') == ['say "quoted" OR not']
    assert prompts("grüße") == ["say Grüße"]
    assert prompts("fox", "sure") == []
    assert inside("logs", "search").returncode == 2
    inside("chat", "say another fox", *where)
    assert prompts("fox") == ["say another fox", "say The Quick fox"]


def test_a_conversation_continues_from_the_log(tmp_path: Path, state_folder: Path) -> None:
    """`-c` sends the earlier messages with fragments and pictures, with the system prompt and the model."""
    (tmp_path / "a.txt").write_text("A text.", encoding="utf-8")
    (tmp_path / "a.png").write_bytes(PNG)
    with spied(anything()) as (server, spy):
        where = ("--base-url", server.base_url)
        files = ("-f", str(tmp_path / "a.txt"), "-i", str(tmp_path / "a.png"))
        inside("chat", "What is it?", "-s", "Be brief.", *files, *MODEL, *where)
        (tmp_path / "a.txt").unlink()
        (tmp_path / "a.png").unlink()
        assert inside("chat", "-c", "And now?", *where).returncode == 0
        inside("chat", "Another thing.", *MODEL, *where)
        first = logged()[-1]["conversation"]
        assert inside("chat", "--conversation", first, "And then?", *where).returncode == 0
        missing = inside("chat", "--conversation", "none", "x", *where)
    one, two, _, four = (body["messages"] for body in spy.bodies("/chat/completions"))
    assert two[: len(one)] == one
    assert two[1]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert four[: len(two)] == two
    assert [message["content"] for message in four[len(two) :]] == ["Fine.", "And then?"]
    assert {body["model"] for body in spy.bodies("/chat/completions")} == {"demo-chat"}
    assert [call["conversation"] == first for call in reversed(logged())] == [True, True, False, True]
    assert [call["prompt"] for call in logged("show", first)] == ["What is it?", "And now?", "And then?"]
    assert missing.returncode == 2
    assert "no conversation 'none'" in missing.stderr
    assert list(state_folder.glob("*")) == []


def test_the_last_of_log_and_sessions(state_folder: Path) -> None:
    """`-c` continues the session that was used last, in its file, also if that was not logged."""
    with spied(anything()) as (server, spy):
        where = (*MODEL, "--base-url", server.base_url)
        inside("chat", "one", "--session", "a", *where)
        inside("chat", "-c", "two", *where)
        inside("chat", "alone", *where)
        inside("chat", "three", "--session", "a", "--no-log", *where)
        inside("chat", "-c", "four", *where)
    asked = [[message["content"] for message in body["messages"]] for body in spy.bodies("/chat/completions")]
    assert asked[1] == ["one", "Fine.", "two"]
    assert asked[4][::2] == ["one", "two", "three", "four"]
    assert len({call["conversation"] for call in logged() if call["prompt"] != "alone"}) == 1
    assert (state_folder / "a.jsonl").read_text(encoding="utf-8").count("Fine.") == 4


def test_a_tool_call_is_continued(tmp_path: Path) -> None:
    """Calls of tools and their results are part of the conversation."""

    def answer(path: str, body: Any) -> Answer:
        if len(body["messages"]) == 1:
            made: Any = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            parts: Any = {"tool_calls": [made]}
            return streamed(chunk("", **parts), chunk("", "tool_calls"), b"data: [DONE]\n\n")
        return streamed(chunk("Done.", "stop"), b"data: [DONE]\n\n")

    (tmp_path / "functions.py").write_text("def f() -> str:\n    return 'found'\n", encoding="utf-8")
    with spied(answer) as (server, spy):
        where = (*MODEL, "--base-url", server.base_url)
        assert inside("chat", "use it", "--functions", str(tmp_path / "functions.py"), *where).stdout == "Done.\n"
        assert inside("chat", "-c", "and?", *where).returncode == 0
    messages = spy.bodies("/chat/completions")[-1]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "assistant", "user"]
    assert messages[1]["tool_calls"][0]["id"] == messages[2]["tool_call_id"]
    assert messages[2]["content"] == "found"


def test_off_and_on(server: ServerThread, log_file: Path) -> None:
    """`logs off` holds for all commands, --no-log and --forget for one; `logs status` creates no file."""
    where = (*MODEL, "--base-url", server.base_url)
    assert inside("logs", "status").stdout == f"on\n{log_file}\n"
    assert not log_file.exists()
    assert inside("logs").returncode == 2
    inside("chat", "say one", "--no-log", *where)
    inside("chat", "say one", "--forget", *where)
    inside("responses", "say one", "--no-log", *where)
    assert not log_file.exists()
    inside("logs", "off")
    inside("chat", "say one", *where)
    assert not log_file.exists()
    assert inside("logs", "status").stdout.startswith("off\n")
    inside("logs", "on")
    inside("chat", "say two", *where)
    assert [one["prompt"] for one in logged()] == ["say two"]
    assert "1 calls" in inside("logs", "status").stdout


def _newer(file: Path) -> None:
    with sqlite3.connect(file) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda file: file.write_bytes(b"not a database, " * 100), "not a database"),
        (lambda file: file.mkdir(), "logs.db"),
        (_newer, "newer version"),
    ],
    ids=["damaged", "a folder", "newer"],
)
def test_a_log_that_cannot_be_written(server: ServerThread, log_file: Path, spoil: Any, words: str) -> None:
    """The answer and the exit code are those of a command without a log; stderr has one warning."""
    log_file.parent.mkdir(parents=True)
    spoil(log_file)
    done = inside("chat", "say one", *MODEL, "--base-url", server.base_url)
    assert (done.returncode, done.stdout) == (0, "one\n")
    assert done.stderr.startswith("This was not logged: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr
    listed = inside("logs")
    assert listed.returncode == 2
    assert one_line(listed.stderr)


def test_several_processes(server: ServerThread) -> None:
    """Commands that run at the same time, from the very first call on, log all of their calls."""
    where = (*MODEL, "--base-url", server.base_url)
    with ThreadPoolExecutor(4) as pool:
        ends = list(pool.map(lambda number: call("chat", f"say {number}", *where), range(4)))
    assert [(done.returncode, done.stderr) for done in ends] == [(0, "")] * 4
    assert {one["prompt"] for one in logged()} == {f"say {number}" for number in range(4)}


def test_undone_turns_are_not_continued(tmp_path: Path) -> None:
    """What a conversation replaced is shown in the log, but is not part of what is continued."""
    path = tmp_path / "log.db"
    turns = [("one", 0), ("two", 2), ("again two", 2), ("three", 4)]
    with CallLog.open(path, create=True) as log:
        conversation = None
        for prompt, follows in turns:
            messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": "ok"}]
            entry = LogEntry(command="chat", prompt=prompt, answer="ok", follows=follows, messages=messages)
            conversation = log.add(entry, conversation, None, str)
        assert conversation is not None
        found, missing = log.messages(conversation)
        assert [message["content"] for message in found[::2]] == ["one", "again two", "three"]
        assert missing == []


def test_a_text_that_is_too_long_to_keep(tmp_path: Path) -> None:
    """Of a long prompt the beginning is kept, of a long fragment its hash; time stays linear in what is kept."""
    from openaiasync.cli.fragments import Fragment

    fragment = Fragment("big.txt", "word " * 100_000)
    message = {"role": "user", "content": f"{fragment.text}\n\nq"}
    with CallLog.open(tmp_path / "log.db", create=True) as log:
        entry = LogEntry(command="chat", prompt="q", answer="a", fragments=[fragment], messages=[message])
        conversation = log.add(entry, None, None, str)
        assert log.messages(conversation)[1] == [fragment.digest]
        log.add(LogEntry(command="chat", prompt="x" * 500_000, answer="a"), None, None, str)
        assert "more characters" in log.recent(1)[0]["prompt"]
    with pytest.raises(CommandError, match="nothing is logged"), CallLog.open(tmp_path / "none.db"):
        pass


def test_show_and_its_ids(server: ServerThread) -> None:
    """The last conversation, or one by the beginning of its id; a beginning of several is refused."""
    where = (*MODEL, "--base-url", server.base_url)
    inside("chat", "say one", "-s", "Be brief.", *where)
    inside("chat", "-c", "say two", *where)
    inside("chat", "say three", *where)
    shown = inside("logs", "show").stdout
    assert "say three" in shown
    assert "say two" not in shown
    assert [one["prompt"] for one in logged("-c")] == ["say three"]
    first = logged()[-1]["conversation"]
    text = inside("logs", "show", first).stdout
    order = [text.index(word) for word in ("Be brief.", "say one", "## Answer", "say two")]
    assert order == sorted(order)
    assert inside("logs", "show", first[:-1]).stdout == text
    several = inside("logs", "show", first[:4])
    assert several.returncode == 2
    assert "2 conversations begin" in several.stderr
    assert inside("logs", "show", "zzz").returncode == 2
