"""Files in the Batch format: everything that is wrong with one is named, with its line, in one go."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cputime import assert_linear
from openaiasync import InputFileError
from openaiasync.bulk import batch_file
from openaiasync.bulk.batch_file import (
    LinePosition,
    check_file,
    encode_failure,
    encode_success,
    endpoint_at,
    parse_line,
    read_lines,
    request_of,
    skip_rows,
    with_defaults,
)


def row(key: Any = "a", url: str = "/v1/chat/completions", **body: Any) -> str:
    body = body or {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    return json.dumps({"custom_id": key, "method": "POST", "url": url, "body": body})


def written(folder: Path, *lines: str | bytes) -> str:
    path = folder / "in.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\n")
    return str(path)


WRONG = {
    "not JSON": ("{nothing", "not JSON"),
    "a torn line": (row()[:40], "not JSON"),
    "a list": ("[1, 2]", "not a JSON object but a list"),
    "a text": ('"hello"', "not a JSON object"),
    "not UTF-8": (b'{"custom_id": "\xff\xfe", "url": "/v1/chat/completions", "body": {}}', "not UTF-8"),
    "no custom_id": (json.dumps({"url": "/v1/chat/completions", "body": {"model": "m"}}), "custom_id is missing"),
    "an empty custom_id": (row(""), "custom_id is empty"),
    "a number as custom_id": (row(7), "custom_id is not a text"),
    "no url": (json.dumps({"custom_id": "x", "body": {"model": "m"}}), "url is missing"),
    "an unknown url": (row("x", "/v1/chat/completion"), "did you mean '/v1/chat/completions'?"),
    "another url": (row("x", "/v1/files"), "known are /v1/chat/completions"),
    "another method": (row("x").replace("POST", "GET"), "method is 'GET'"),
    "no body": (json.dumps({"custom_id": "x", "url": "/v1/embeddings"}), "body is missing"),
    "a list as body": (
        json.dumps({"custom_id": "x", "url": "/v1/embeddings", "body": [1]}),
        "body is not a JSON object",
    ),
    "a stream": (row("x", model="m", stream=True), "stream=true"),
    "deep nesting": ('{"custom_id": "x", "body": ' + "[" * 100_000, "not JSON"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    """Each kind of bad line is found between good ones, by its number, blank lines counted."""
    line, reason = WRONG[name]
    found = check_file(written(tmp_path, row("1"), "", line, row("2")))
    error = found.error()
    assert isinstance(error, InputFileError)
    assert [problem.line for problem in error.problems] == [3]
    assert reason in str(error)
    assert "line 3" in str(error)
    assert found.rows == 3


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Several bad lines are in one error, in the order of lines; of very many the first thousand are kept."""
    found = check_file(written(tmp_path, "x", row("1"), "[]", row("1")))
    assert [problem.line for problem in found.problems] == [1, 3, 4]
    assert "custom_id '1' is that of line 2" in found.problems[2].text
    many = check_file(written(tmp_path, *["x"] * 3000))
    assert (len(many.problems), many.problem_count) == (1000, 3000)
    assert "and 2,980 more" in str(many.error())


@pytest.mark.parametrize("exact", [100, 1 << 17])
def test_duplicates_are_found_among_many(tmp_path: Path, exact: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `custom_id` that comes again is named wherever it stands; keys that only look alike are not."""
    monkeypatch.setattr(batch_file, "_EXACT", exact)
    keys = [f"row-{number}" for number in range(20_000)]
    path = written(tmp_path, *map(row, keys), row("row-17"), row("row-17 "), row("row-19999"))
    found = check_file(path)
    assert [(problem.line, problem.text) for problem in found.problems] == [
        (20_001, "custom_id 'row-17' is that of line 18, too"),
        (20_003, "custom_id 'row-19999' is that of line 20000, too"),
    ]


def test_a_right_file_is_counted(tmp_path: Path) -> None:
    """Rows, models, urls and tokens; a byte order mark, CRLF and a last line without its end are fine."""
    lines = [row("1"), row("2", "/v1/embeddings", model="e", input=["a", "b"]), row("3", model="m", max_tokens=50)]
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    found = check_file(str(path))
    assert found.error() is None
    assert found.rows == 3
    assert dict(found.models) == {"m": 2, "e": 1}
    assert dict(found.urls) == {"/v1/chat/completions": 2, "/v1/embeddings": 1}
    assert (found.output_limit, found.unlimited) == (50, 2)
    assert found.input_tokens > 0
    assert [number for number, _ in read_lines(str(path))] == [1, 2, 3]


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    """A file without rows is named, not run."""
    assert "no rows" in str(check_file(written(tmp_path, "", " ")).error())


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    """A file that has fewer bytes than it had when it was checked ends in an error that says how many are missing."""
    path = written(tmp_path, row("1"), row("2"))
    size = os.path.getsize(path)
    os.truncate(path, size - 30)
    with pytest.raises(InputFileError, match="became shorter while it was read: 30 bytes"):
        list(read_lines(path, size))


def test_a_file_that_grows_is_read_as_it_was(tmp_path: Path) -> None:
    """Rows that are added meanwhile belong to the next run."""
    path = written(tmp_path, row("1"))
    size = os.path.getsize(path)
    with open(path, "a") as file:
        file.write(row("2") + "\n")
    assert len(list(read_lines(path, size))) == 1


@pytest.mark.parametrize("done", [0, 1, 5, 4_999, 5_000])
@pytest.mark.parametrize("ends", [True, False])
def test_finished_rows_are_skipped(tmp_path: Path, done: int, ends: bool) -> None:
    """Reading goes on at the first row that is not finished, with the right numbers, across chunks and blank lines."""
    path = tmp_path / "in.jsonl"
    lines = [
        f'{{"n": {number}, "pad": "{"x" * (number % 200)}"}}{chr(10) * (1 + number % 3)}' for number in range(5000)
    ]
    text = "".join(lines)
    path.write_text(text if ends else text.rstrip("\n"))
    start = skip_rows(str(path), path.stat().st_size, lambda row: row < done)
    assert start.row == done
    every = list(read_lines(str(path)))
    rest = list(read_lines(str(path), path.stat().st_size, start))
    assert rest == every[done:]
    assert start == LinePosition(*start)


def test_checking_takes_no_memory_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six times as many rows take at most 1 MB more, once they are too many to be remembered one by one."""
    monkeypatch.setattr(batch_file, "_EXACT", 5_000)
    peaks: list[int] = []
    for count in (10_000, 60_000):
        path = written(tmp_path, *(row(f"row-{number}") for number in range(count)))
        tracemalloc.start()
        check_file(path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1_000_000


def test_checking_is_linear(tmp_path: Path) -> None:
    """Four times as many rows take four times as long."""
    paths = {}
    for count in (3_000, 12_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        paths[count] = written(folder, *(row(f"row-{number}") for number in range(count)))
    assert_linear(lambda count: check_file(paths[count]), 3_000)


def test_a_row_becomes_the_request_it_says() -> None:
    """The body is sent as it stands in the file; the number of texts to embed is known, for checking the answer."""
    text = '{"custom_id":"k","url":"/v1/embeddings","body":{"model":"m", "input":["a","b"],"other":1.50}}'
    line, fields = parse_line(text.encode())
    endpoint = endpoint_at(line.url)
    assert endpoint is not None
    request = request_of(endpoint, bytes(line.body), fields)
    assert (request.path, request.body) == ("/embeddings", b'{"model":"m", "input":["a","b"],"other":1.50}')
    assert request.texts == 2
    assert endpoint_at("/embeddings") is endpoint


def test_defaults_fill_in_what_is_missing() -> None:
    """Fields that a body has are kept, bytes and all; the others get the default."""
    assert with_defaults(b'{"a": 1.0}', {"a": 2, "b": 3}) == b'{"a":1.0,"b":3}'
    assert with_defaults(b'{"a": 1.0}', {"a": 2}) == b'{"a": 1.0}'


def test_lines_of_output_are_those_of_the_batch_api() -> None:
    """Answers keep every digit of the server's JSON, on one line; failed rows can be sent again as they are."""
    line = encode_success("batch_req_1", 'k"1', 200, "req_1", b'{\n  "a": 1.000,\r\n "b": "x\\ny"\n}')
    assert line.count(b"\n") == 1
    assert b"1.000" in line
    assert json.loads(line) == {
        "id": "batch_req_1",
        "custom_id": 'k"1',
        "response": {"status_code": 200, "request_id": "req_1", "body": {"a": 1.0, "b": "x\ny"}},
        "error": None,
    }
    failed = encode_failure("k", "/v1/embeddings", b'{"model":\n"m"}', 400, None, {"code": "c"}, {"error": {}})
    assert failed.count(b"\n") == 1
    assert json.loads(failed)["response"] == {"status_code": 400, "request_id": None, "body": {"error": {}}}
    again, fields = parse_line(failed)
    assert (again.custom_id, again.url, fields.model) == ("k", "/v1/embeddings", "m")
    assert msgspec.json.decode(again.body) == {"model": "m"}


@pytest.mark.parametrize(
    ("encode", "said"),
    [
        (lambda text: text.encode("utf-16"), "UTF-16"),
        (lambda text: text.encode("utf-16-be"), "UTF-16"),
        (lambda text: gzip.compress(text.encode()), "gzip"),
    ],
)
def test_a_file_that_is_no_utf8_is_named_once(tmp_path: Path, encode: Any, said: str) -> None:
    """One problem with advice, and not one for every line."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(encode('{"custom_id": "a"}\n' * 100))
    (problem,) = check_file(str(path)).problems
    assert said in problem.text
