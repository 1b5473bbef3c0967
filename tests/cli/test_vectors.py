"""`openaiasync embed` from tables and JSON, into files that it continues; and `similar`, which searches them."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
import sys
from array import array
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openaiasync.cli import vector_file
from openaiasync.cli.vector_file import VectorFile
from openaiasync.server import ServerThread

from .command import Answer, inside, one_line, refused, spied

pytestmark = pytest.mark.commands

MODEL = ("-m", "demo-embed", "--dimensions", "8")
TEXTS = ["alpha", "beta", "gamma, delta", "epsilon"]


def embed(server: ServerThread, *arguments: str, stdin: bytes = b"") -> Any:
    return inside("embed", *arguments, *MODEL, "--base-url", server.base_url, stdin=stdin)


def rows_of(text: str) -> list[tuple[int, str]]:
    return [(row["index"], row["text"]) for row in map(json.loads, text.splitlines())]


def table(path: Path, delimiter: str = ",") -> str:
    with open(path, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([["id", "body"], *([str(number), text] for number, text in enumerate(TEXTS)), ["9", ""]])
    return str(path)


# -------------------------------------------------------------------------------------------------- input


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_a_column_of_a_table(suffix: str, server: ServerThread, tmp_path: Path) -> None:
    """Rows are counted from 0 after the header, quoted fields may have commas, empty ones are skipped."""
    path = table(tmp_path / f"rows.{suffix}", "\t" if suffix == "tsv" else ",")
    done = embed(server, path, "--column", "body")
    assert done.returncode == 0, done.stderr
    assert rows_of(done.stdout) == list(enumerate(TEXTS))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps(TEXTS)),
        ("a.json", json.dumps([{"n": 1, "text": text} for text in TEXTS])),
        ("a.jsonl", "\n".join(map(json.dumps, TEXTS))),
        ("a.ndjson", "\n".join(json.dumps({"content": text, "title": "x"}) for text in TEXTS)),
    ],
)
def test_json(name: str, text: str, server: ServerThread, tmp_path: Path) -> None:
    """Texts, or objects with a usual or the only text among their keys."""
    (tmp_path / name).write_text(text)
    done = embed(server, str(tmp_path / name))
    assert done.returncode == 0, done.stderr
    assert rows_of(done.stdout) == list(enumerate(TEXTS))


def test_stdin_with_a_format(server: ServerThread) -> None:
    """`--format` gives the format of stdin, which has no name."""
    done = embed(server, "--format", "csv", "--column", "t", stdin=b"t,u\none,1\ntwo,2\n")
    assert rows_of(done.stdout) == [(0, "one"), (1, "two")]


def test_a_line_that_is_not_json_fails_alone(server: ServerThread) -> None:
    """A line that is not JSON fails alone; the exit code is 3."""
    done = embed(server, "--format", "jsonl", stdin=b'"one"\n{broken\n"two"\n')
    assert done.returncode == 3
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [("embedding" in row, "error" in row) for row in rows] == [(True, False), (False, True), (True, False)]
    assert "not JSON" in rows[1]["error"]


@pytest.mark.parametrize(
    ("arguments", "stdin", "words"),
    [
        (("--format", "csv", "--column", "x"), b"a,b\n1,2\n", "no column 'x'; its columns are a, b"),
        (("--format", "csv"), b"a,b\n1,2\n", "--column"),
        (("--format", "json"), b"{", "not JSON"),
        (("--format", "json"), b'{"a": 1}', "not an array"),
        (("--format", "json"), b"[3]", "row 1"),
        (("--format", "jsonl", "--column", "x"), b'"text"\n', "no columns"),
        (("--format", "csv"), b'a\n"unclosed', "not a table"),
        (("--column", "x"), b"a\n", "--column"),
        (("--out", "a", "--store", "b"), b"a\n", "--out and --store"),
        (("--new",), b"a\n", "--new"),
    ],
)
def test_input_that_cannot_be_used(
    arguments: tuple[str, ...], stdin: bytes, words: str, server: ServerThread, monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    """Each is wrong usage, with one line that says what to do."""
    monkeypatch.chdir(tmp_path)
    done = embed(server, *arguments, stdin=stdin)
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert words in done.stderr
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------- continuing


def interrupted(target: tuple[str, str], tmp_path: Path) -> tuple[list[str], list[list[str]]]:
    """Embed ten lines with a server that fails in the middle, then again; return the lines and the texts sent."""
    source = tmp_path / "lines.txt"
    lines = [f"line {number}" for number in range(10)]
    source.write_text("\n".join(lines))
    dead = [True]

    def answer(path: str, body: Any) -> Answer:
        return refused("no", 401) if dead[0] and path.endswith("embeddings") and "line 6" in body["input"] else None

    sent: list[list[str]] = []
    with spied(answer) as (server, spy):
        arguments = (str(source), *target, "--batch", "2", "--in-flight", "1")
        first = embed(server, *arguments)
        assert first.returncode == 1
        sent.append([text for body in spy.bodies("/embeddings") for text in body["input"]])
        spy.requests.clear()
        dead[0] = False
        second = embed(server, *arguments)
        assert second.returncode == 0, second.stderr
        assert "were there" in second.stderr
        sent.append([text for body in spy.bodies("/embeddings") for text in body["input"]])
        spy.requests.clear()
        assert embed(server, *arguments).returncode == 0
        assert spy.bodies("/embeddings") == [], "nothing is left to do"
    return lines, sent


def test_json_lines_are_continued(tmp_path: Path) -> None:
    """The second run sends what the first has not written; the file is what one run would have made."""
    out = tmp_path / "vectors.jsonl"
    lines, (first, second) = interrupted(("--out", str(out)), tmp_path)
    assert first[:6] == lines[:6]
    assert second == lines[6:]
    assert rows_of(out.read_text()) == list(enumerate(lines))


def test_a_store_is_continued(tmp_path: Path) -> None:
    """A second run with --store sends what the first has not written."""
    path = tmp_path / "vectors.db"
    lines, (_, second) = interrupted(("--store", str(path)), tmp_path)
    assert second == lines[6:]
    with sqlite3.connect(path) as base:
        found = base.execute("SELECT id, text, length(vector) FROM texts ORDER BY id").fetchall()
    base.close()
    assert found == [(number, text, 32) for number, text in enumerate(lines)]


def test_a_line_cut_by_a_crash_is_written_again(server: ServerThread, tmp_path: Path) -> None:
    """A line without its end was not finished."""
    out, source = tmp_path / "v.jsonl", tmp_path / "s.txt"
    source.write_text("one\ntwo\nthree\n")
    embed(server, str(source), "-o", str(out))
    whole = out.read_bytes()
    out.write_bytes(whole[: whole.rindex(b"embedding")])
    assert embed(server, str(source), "-o", str(out)).returncode == 0
    assert out.read_bytes() == whole


def test_another_input_or_file_is_not_continued(server: ServerThread, tmp_path: Path) -> None:
    """The file stays as it is; `--new` begins again."""
    out, source = tmp_path / "v.jsonl", tmp_path / "s.txt"
    source.write_text("one\n")
    embed(server, str(source), "-o", str(out))
    source.write_text("other\n")
    done = embed(server, str(source), "-o", str(out))
    assert done.returncode == 2
    assert "--new" in done.stderr
    assert rows_of(out.read_text()) == [(0, "one")]
    assert embed(server, str(source), "-o", str(out), "--new").returncode == 0
    assert rows_of(out.read_text()) == [(0, "other")]
    foreign = tmp_path / "notes.txt"
    foreign.write_text("my notes\n")
    for option in ("--out", "--store"):
        done = embed(server, str(source), option, str(foreign))
        assert done.returncode == 2
        assert "left as it is" in done.stderr
        assert foreign.read_text() == "my notes\n"


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("one\nchanged\nthree\n", MODEL, "line 2 of the input"),
        ("one\n\ntwo\nthree\n", MODEL, "line 3 of the input"),
        ("one\ntwo\n", MODEL, "ends before line 3"),
        ("one\ntwo\nthree\nfour\n", ("-m", "other-embed", "--dimensions", "8"), "vectors of demo-embed"),
        ("one\ntwo\nthree\nfour\n", ("-m", "demo-embed", "--dimensions", "16"), "8 numbers, not of 16"),
        ("one\ntwo\nthree\nfour\n", ("-m", "demo-embed"), "8 numbers, not of 256"),
    ],
    ids=[
        "a line in the middle",
        "a line moved",
        "fewer lines",
        "another model",
        "another length",
        "the default length",
    ],
)
def test_vectors_of_two_runs_do_not_mix(
    text: str, arguments: tuple[str, ...], words: str, server: ServerThread, tmp_path: Path
) -> None:
    """Every line of the file is compared with the input, the model and the length before one is added."""
    out, source = tmp_path / "v.jsonl", tmp_path / "s.txt"
    source.write_text("one\ntwo\nthree\n")
    assert embed(server, str(source), "-o", str(out)).returncode == 0
    whole = out.read_bytes()
    source.write_text(text)
    done = inside("embed", str(source), "-o", str(out), *arguments, "--base-url", server.base_url)
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert words in done.stderr
    assert "--new" in done.stderr
    assert out.read_bytes() == whole


def test_lines_that_failed_earlier_are_not_forgotten(tmp_path: Path) -> None:
    """A later run has nothing to send, but says that vectors are missing, and exits with 3 as the first one did."""
    out, source = tmp_path / "v.jsonl", tmp_path / "s.txt"
    source.write_text("one\nbad\nthree\n")

    def answer(path: str, body: Any) -> Answer:
        return refused("bad text") if "bad" in body["input"] else None

    with spied(answer) as (server, spy):
        assert embed(server, str(source), "-o", str(out)).returncode == 3
        spy.requests.clear()
        again = embed(server, str(source), "-o", str(out))
        assert spy.requests == []
    assert again.returncode == 3
    assert "1 lines failed in an earlier run" in again.stderr
    assert "error" in json.loads(out.read_text().splitlines()[1])


def test_a_store_says_which_texts_the_input_has_lost(server: ServerThread, tmp_path: Path) -> None:
    """They are still found by `similar`, so that the user has to know of them."""
    path, source = tmp_path / "v.db", tmp_path / "s.txt"
    source.write_text("one\ntwo\nthree\n")
    embed(server, str(source), "--store", str(path))
    source.write_text("one\n")
    done = embed(server, str(source), "--store", str(path))
    assert done.returncode == 0
    assert "2 texts" in done.stderr
    assert "--new" in done.stderr


def test_a_text_that_is_not_utf_8(server: ServerThread, tmp_path: Path) -> None:
    """It is named, and is not an error of Python's codecs."""
    path, source = tmp_path / "v.db", tmp_path / "s.txt"
    source.write_text("one\n")
    embed(server, str(source), "--store", str(path))
    done = inside("similar", str(path), "--base-url", server.base_url, stdin=b"caf\xe9")
    assert done.returncode == 2
    assert "stdin is not UTF-8 text" in done.stderr


def test_a_changed_text_and_a_failed_one_are_sent_again(tmp_path: Path) -> None:
    """Of a store: rows whose text is another one now, and rows without a vector."""
    path, source = tmp_path / "v.db", tmp_path / "s.txt"
    bad = ["bad"]

    def answer(path: str, body: Any) -> Answer:
        return refused("bad text") if path.endswith("embeddings") and set(bad) & set(body["input"]) else None

    with spied(answer) as (server, spy):
        source.write_text("one\nbad\nthree\n")
        assert embed(server, str(source), "--store", str(path)).returncode == 3
        bad.clear()
        spy.requests.clear()
        source.write_text("one\nbad\nchanged\n")
        assert embed(server, str(source), "--store", str(path)).returncode == 0
        assert [body["input"] for body in spy.bodies("/embeddings")] == [["bad", "changed"]]
    with VectorFile(str(path), create=False) as store:
        assert (store.model, store.dimensions, store.count()) == ("demo-embed", 8, 3)


def test_a_store_has_one_model_and_one_length(server: ServerThread, tmp_path: Path) -> None:
    """Vectors of different models cannot be compared."""
    path = str(tmp_path / "v.db")
    embed(server, "--store", path, stdin=b"one\n")
    done = inside(
        "embed", "-m", "demo-embed", "--dimensions", "9", "--store", path, "--base-url", server.base_url, stdin=b"x"
    )
    assert (done.returncode, "vectors of 8 numbers" in done.stderr) == (2, True)
    done = inside("embed", "-m", "other", "--store", path, "--base-url", server.base_url, stdin=b"x")
    assert (done.returncode, "vectors of demo-embed" in done.stderr) == (2, True)


# -------------------------------------------------------------------------------------------------- similar


def similar(server: ServerThread, *arguments: str, stdin: bytes = b"") -> Any:
    return inside("similar", *arguments, "--base-url", server.base_url, stdin=stdin)


def test_the_nearest_texts(server: ServerThread, tmp_path: Path) -> None:
    """An equal text is the first, with a cosine of 1; `--top` limits the number; the length is that of the store."""
    path = str(tmp_path / "v.db")
    embed(server, "--store", path, stdin="\n".join(TEXTS).encode())
    done = similar(server, path, "beta", "--top", "3")
    assert done.returncode == 0, done.stderr
    lines = [line.split("\t") for line in done.stdout.splitlines()]
    assert len(lines) == 3
    assert lines[0] == ["1.0000", "beta"]
    assert [float(score) for score, _ in lines] == sorted((float(score) for score, _ in lines), reverse=True)
    found = json.loads(similar(server, path, "--json", "-n", "1", stdin=b"epsilon\n").stdout)
    assert found == [{"score": pytest.approx(1.0), "row": 3, "text": "epsilon"}]


@pytest.mark.parametrize("name", ["nowhere.db", "empty.db", "notes.txt", "foreign.db"])
def test_a_file_that_is_not_a_store(name: str, server: ServerThread, tmp_path: Path) -> None:
    """Each is wrong usage with one line; no file is created or changed."""
    (tmp_path / "notes.txt").write_text("notes")
    base = sqlite3.connect(tmp_path / "foreign.db")
    base.execute("CREATE TABLE bookmarks (url)")
    base.commit()
    base.close()
    VectorFile(str(tmp_path / "empty.db"), create=True).close()
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    done = similar(server, str(tmp_path / name), "text")
    assert done.returncode == 2
    assert one_line(done.stderr)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_another_model_or_no_text(server: ServerThread, tmp_path: Path) -> None:
    """The model has to be that of the store; there has to be a text."""
    path = str(tmp_path / "v.db")
    embed(server, "--store", path, stdin=b"one\n")
    assert "vectors of demo-embed" in similar(server, path, "one", "-m", "other").stderr
    assert "empty" in similar(server, path, " ").stderr


VECTORS = st.lists(st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3), min_size=1, max_size=40)


@given(VECTORS, st.lists(st.floats(-100, 100, width=32), min_size=3, max_size=3))
def test_cosines_by_their_definition(vectors: list[list[float]], wanted: list[float]) -> None:
    """With and without numpy: the product by the lengths, 0 for a vector without a length."""
    blobs = [vector_file._packed(vector) for vector in vectors]
    plain = vector_file._plain_cosines(blobs, wanted)
    for vector, found in zip(vectors, plain, strict=True):
        size = math.hypot(*vector) * math.hypot(*wanted)
        expected = sum(one * other for one, other in zip(vector, wanted, strict=True)) / size if size else 0.0
        assert found == pytest.approx(expected, abs=1e-6)
    assert vector_file._cosines(blobs, wanted) == pytest.approx(plain, abs=1e-6)


def test_numbers_are_little_endian(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store made on one machine is read on any other."""
    vector = array("f", [1.0, -2.5])
    assert vector_file._packed(vector) == b"\x00\x00\x80\x3f\x00\x00\x20\xc0"
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")
    assert vector_file._packed(vector) == b"\x3f\x80\x00\x00\xc0\x20\x00\x00"
