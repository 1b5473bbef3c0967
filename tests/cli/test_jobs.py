"""The commands for jobs, as a user runs them: files, exit codes, signals, what is printed where."""

from __future__ import annotations

import csv
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .command import call, inside, started

sys.path.insert(0, str(Path(__file__).parents[2] / "bench" / "bulk"))
from serving import Server, running


@pytest.fixture(scope="module")
def simulated() -> Iterator[Server]:
    with running() as server:
        yield server


@pytest.fixture
def api(simulated: Server) -> Server:
    simulated.set(latency=0, bad=0, rpm=0)
    simulated.reset()
    return simulated


def write_rows(path: Path, count: int) -> str:
    with open(path, "w") as file:
        for number in range(count):
            body = {"model": "m", "messages": [{"role": "user", "content": f"row-{number}"}], "max_tokens": 9}
            row = {"custom_id": f"k{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
            file.write(json.dumps(row) + "\n")
    return str(path)


def keys_of(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_text().splitlines()]


def test_run_to_its_end(api: Server, tmp_path: Path) -> None:
    """`run` writes the answers, its summary goes to stderr, and it sends nothing when it is done already."""
    source, out = write_rows(tmp_path / "in.jsonl", 50), tmp_path / "out.jsonl"
    done = call("run", source, "-o", str(out), "--base-url", api.base, "--report", str(tmp_path / "r.html"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "50 of 50 rows answered" in done.stderr
    assert keys_of(out) == [f"k{number}" for number in range(50)]
    assert "</html>" in (tmp_path / "r.html").read_text()
    assert inside("run", source, "-o", str(out), "--base-url", api.base).returncode == 0
    assert api.report()["requests"] == 50


def test_failed_rows(api: Server, tmp_path: Path) -> None:
    """Exit code 3 for failed rows; `status` counts them by reason; `retry` finds servers and rows by itself."""
    api.set(bad=0.2)
    source, out = write_rows(tmp_path / "in.jsonl", 60), tmp_path / "out.jsonl"
    done = inside("run", source, "-o", str(out), "--base-url", api.base, "--max-in-flight", "8")
    assert done.returncode == 3
    failed = len(keys_of(tmp_path / "out.errors.jsonl"))
    assert 0 < failed < 60
    assert f"{failed} failed" in done.stderr
    status = inside("status", str(out))
    assert status.returncode == 0
    assert "out.jsonl: done" in status.stdout
    assert f"{failed} × HTTP 400 bad_row" in status.stdout
    assert json.loads(inside("status", str(out), "--json").stdout)["failed"] == failed
    api.set(bad=0)
    again = inside("retry", str(out))
    assert again.returncode == 0, again.stderr
    assert keys_of(out) == [f"k{number}" for number in range(60)]
    assert api.report()["requests"] == 60 + failed


def test_check_sends_nothing(api: Server, tmp_path: Path) -> None:
    """`check` counts rows, tokens and prices; what is wrong is named by line, with exit code 2, as `run` does."""
    source = write_rows(tmp_path / "in.jsonl", 20)
    (tmp_path / "prices.json").write_text('{"m": [1000, 2000]}')
    done = inside("check", source, "--prices", str(tmp_path / "prices.json"))
    assert done.returncode == 0
    assert "20 rows" in done.stdout
    assert "20 × m" in done.stdout
    assert "at most $0.36 for answers" in done.stdout
    with open(source, "a") as file:
        file.write('{"custom_id": "k1", "url": "/v1/nothing"}\n')
    for words in (["check", source], ["run", source, "-o", str(tmp_path / "o"), "--base-url", api.base]):
        done = inside(*words)
        assert done.returncode == 2
        assert "line 21: unknown url '/v1/nothing'" in done.stderr
        assert "line 21: custom_id 'k1' is that of line 2" in done.stderr
    assert api.report()["requests"] == 0


LOCAL = ["--base-url", "http://127.0.0.1:9/v1"]
WRONG: dict[str, tuple[list[str], str]] = {
    "no file": (["run", "none.jsonl", "-o", "o"], "no such file"),
    "no output": (["run", "in.jsonl"], "--out"),
    "a bad number": (["run", "in.jsonl", "-o", "o", "--max-in-flight", "many"], "above 0 or auto"),
    "a negative limit": (["run", "in.jsonl", "-o", "o", "--rpm", "-1"], "rpm"),
    "a template for rows": (["run", "in.jsonl", "-o", "o", "--prompt", "x"], "is for tables"),
    "a table without a template": (["run", "t.csv", "-o", "o"], "--prompt says what to ask"),
    "an unknown column": (["run", "t.csv", "-o", "o", "--prompt", "{b}", *LOCAL], "no column 'b'; columns are a"),
    "no job": (["status", "in.jsonl"], "is not the output of a job"),
    "no job to retry": (["retry", "in.jsonl"], "is not the output of a job"),
    "nothing to change": (["limits", "set", "in.jsonl"], "say what to change"),
    "no results": (["export", "none.jsonl", "o.csv"], "no such file"),
    "its own output": (["export", "in.jsonl", "in.jsonl"], "name another file"),
    "itself": (["run", "in.jsonl", "-o", "in.jsonl", *LOCAL], "would be overwritten"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_usage(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each mistake is one line that says what to do, with exit code 2."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "in.jsonl", 1)
    (tmp_path / "t.csv").write_text("a\n1\n")
    words, said = WRONG[name]
    done = inside(*words)
    assert done.returncode == 2, done.stderr
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_a_table_in_and_out(api: Server, tmp_path: Path) -> None:
    """A CSV with a prompt template becomes requests; the answers become a CSV with a row for each."""
    table = tmp_path / "in.csv"
    table.write_text('id,text\na,"row-1, ""quoted"""\nb,row-2 {braces}\n')
    out = tmp_path / "out.jsonl"
    words = ["run", str(table), "-o", str(out), "--base-url", api.base, "-m", "m", "--prompt", "Say {{x}}: {text}"]
    assert inside(*words, "--system", "Be kind to {id}.").returncode == 0
    assert keys_of(out) == ["a", "b"]
    sent = [json.loads(line)["body"] for line in (tmp_path / "out.jsonl.job" / "input.jsonl").read_text().splitlines()]
    assert sent[0]["messages"] == [
        {"role": "system", "content": "Be kind to a."},
        {"role": "user", "content": 'Say {x}: row-1, "quoted"'},
    ]
    assert sent[1]["messages"][1]["content"] == "Say {x}: row-2 {braces}"
    assert inside("export", str(out), str(tmp_path / "out.csv")).returncode == 0
    with open(tmp_path / "out.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["custom_id"] for row in rows] == ["a", "b"]
    assert "(row-2)" in rows[1]["text"]
    changed = inside(*words, "--system", "Be rude to {id}.")
    assert changed.returncode == 2
    assert "another table" in changed.stderr
    table.write_text("id,text\na,other\n")
    assert "was changed since" in inside(*words, "--system", "Be kind to {id}.").stderr


@pytest.mark.commands
def test_limits_of_a_running_job(api: Server, tmp_path: Path) -> None:
    """`limits set` slows a running job down, and speeds it up again."""
    api.set(latency=0.01)
    source, out = write_rows(tmp_path / "in.jsonl", 400), tmp_path / "out.jsonl"
    words = ("run", source, "-o", str(out), "--base-url", api.base, "--rpm", "60", "--max-in-flight", "4")
    with started(*words) as child:
        _until(lambda: api.report()["rows"] >= 2)
        status = inside("status", str(out))
        assert "running" in status.stdout
        assert api.report()["rows"] < 100
        assert inside("limits", "set", str(out), "--rpm", "600000").returncode == 0
        assert child.wait(30) == 0
    assert api.report()["rows"] == 400


@pytest.mark.commands
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a child there")
def test_ctrl_c(api: Server, tmp_path: Path) -> None:
    """Ctrl-C finishes the rows in flight and exits with 130; the same command continues and pays for nothing twice."""
    api.set(latency=0.2)
    source, out = write_rows(tmp_path / "in.jsonl", 1000), tmp_path / "out.jsonl"
    words = ("run", source, "-o", str(out), "--base-url", api.base, "--max-in-flight", "10")
    with started(*words) as child:
        _until(lambda: api.report()["rows"] >= 20)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
    assert child.returncode == 130, err
    assert b"Finishing the rows in flight" in err
    assert b"the same call goes on" in err
    assert api.report()["in_flight"] == 0
    assert len(keys_of(out)) == api.report()["rows"] < 1000
    api.set(latency=0)
    assert call(*words).returncode == 0
    report = api.report()
    assert (report["rows"], report["requests"]) == (1000, 1000)
    assert keys_of(out) == [f"k{number}" for number in range(1000)]


@pytest.mark.commands
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for a child there")
def test_ctrl_c_twice(api: Server, tmp_path: Path) -> None:
    """A second Ctrl-C abandons the rows in flight immediately; the continued job reports them."""
    api.set(latency=30)
    source, out = write_rows(tmp_path / "in.jsonl", 20), tmp_path / "out.jsonl"
    words = ("run", source, "-o", str(out), "--base-url", api.base, "--max-in-flight", "5")
    with started(*words) as child:
        _until(lambda: api.report()["in_flight"] == 5)
        child.send_signal(signal.SIGINT)
        assert child.stderr is not None
        assert any(b"Finishing the rows in flight" in line for line in child.stderr)  # or both signals would be one
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
    api.set(latency=0)
    done = call(*words)
    assert done.returncode == 0
    assert "perhaps paid twice" in done.stderr
    saved: dict[str, Any] = json.loads((tmp_path / "out.report.json").read_text())
    assert sorted(saved["paid_twice"]) == [f"k{number}" for number in range(5)]


def _until(condition: Any) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_requests_from_stdin(api: Server, tmp_path: Path) -> None:
    """They are kept beside the output: an empty stdin continues, more rows at the end are added, other ones refused."""
    file, out = Path(write_rows(tmp_path / "in.jsonl", 30)), tmp_path / "out.jsonl"
    rows = file.read_bytes()
    lines = rows.splitlines(keepends=True)
    words = ("run", "-", "-o", str(out), "--base-url", api.base)
    done = inside(*words, stdin=b"")
    assert (done.returncode, "stdin is empty" in done.stderr) == (2, True)
    done = inside(*words, stdin=b"".join(lines[:20]))
    assert done.returncode == 0, done.stderr
    assert keys_of(out) == [f"k{number}" for number in range(20)]
    assert inside(*words).returncode == 0
    assert inside(*words, stdin=b"".join(lines[:20])).returncode == 0
    assert api.report()["requests"] == 20
    assert inside(*words, stdin=rows).returncode == 0
    assert keys_of(out) == [f"k{number}" for number in range(30)]
    assert api.report()["requests"] == 30
    for other in (b"".join(lines[:5]), b"".join(lines[1:])):
        done = inside(*words, stdin=other)
        assert (done.returncode, "--new" in done.stderr) == (2, True)
    assert inside(*words, "--new", stdin=b"".join(lines[:5])).returncode == 0
    assert keys_of(out) == [f"k{number}" for number in range(5)]
    assert sorted(one.name for one in tmp_path.iterdir() if one.name.startswith(".")) == []
    assert (tmp_path / "out.input.jsonl").read_bytes() == b"".join(lines[:5])


def test_stdin_is_checked(tmp_path: Path) -> None:
    """`check -` reads stdin, and leaves nothing behind."""
    rows = Path(write_rows(tmp_path / "in.jsonl", 3)).read_bytes()
    done = inside("check", "-", stdin=rows + b"{}\n")
    assert done.returncode == 2
    assert "line 4" in done.stderr
    assert inside("check", "-", stdin=rows).stdout.startswith("3 rows")


@pytest.mark.parametrize("words", [["run", "--bogus", "-o", "x"], ["check", "-x"], ["embed", "--bogus"]])
def test_an_unknown_option_is_not_taken_for_a_file(words: list[str]) -> None:
    """Of words that begin with a hyphen only `-` itself is a file: stdin."""
    done = inside(*words)
    assert done.returncode == 2
    assert "there is no option" in done.stderr


def test_embed_takes_a_hyphen() -> None:
    """`embed -` reads stdin. (No server listens, so that the call fails.)"""
    done = inside("embed", "-", "--model", "m", "--base-url", "http://127.0.0.1:9/v1", stdin=b"a line\n")
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
