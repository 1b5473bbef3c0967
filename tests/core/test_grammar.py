"""One grammar of HTTP/1.1 for client and server: what it accepts, what it refuses, and that nobody has another."""

from __future__ import annotations

from pathlib import Path

import pytest

import openaiasync
from openaiasync.core.http.grammar import (
    TOKEN_BYTES,
    HTTPGrammarError,
    content_length,
    field_line,
    field_values,
    is_token,
    persists,
    request_line,
)

SOURCE = Path(openaiasync.__file__).parent
# Files that still write the characters of a token themselves; one that no longer does has to leave this list.
OTHER_GRAMMARS: set[str] = set()


def test_a_token_is_made_of_its_characters() -> None:
    """Every character of RFC 9110, 5.6.2, and no other, makes a token; nor does an empty string or another type."""
    assert {code for code in range(256) if is_token(chr(code))} == TOKEN_BYTES
    assert len(TOKEN_BYTES) == 26 + 26 + 10 + 15
    assert not is_token("")
    assert not is_token("a b")
    assert not is_token("a\n")
    assert not is_token(b"a")
    assert not is_token(1)


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\n", "\r", "\0", "\x7f", "€", "sk-secret\n"])
def test_a_field_value_stays_on_its_line(value: str) -> None:
    """A value that would break out of its line, or that latin-1 cannot carry, is refused and not quoted."""
    with pytest.raises(ValueError, match="the header field X-A has a control") as raised:
        field_line("X-A", value)
    assert "secret" not in str(raised.value)
    assert field_line("X-A", "caf\xe9\t!") == "X-A: caf\xe9\t!\r\n"


@pytest.mark.parametrize(("method", "target"), [("GET ", "/"), ("", "/"), ("GET", "/ "), ("GET", ""), ("GET", "/\xe9")])
def test_a_request_line_has_three_parts(method: str, target: str) -> None:
    """Nothing that would be read as another part of the line is written."""
    with pytest.raises(ValueError, match="the request line needs"):
        request_line(method, target)
    assert request_line("GET", "/v1/models?a=%20") == "GET /v1/models?a=%20 HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("values", "length"),
    [([], None), ([b"0"], 0), ([b"5"], 5), ([b"5", b"5"], 5), ([b"5, 5"], 5), ([b"9" * 19], int("9" * 19))],
)
def test_one_length(values: list[bytes], length: int | None) -> None:
    """One number, however often it is repeated, is the length (RFC 9110, 8.6)."""
    assert content_length(values) == length


@pytest.mark.parametrize("values", [[b""], [b"+5"], [b"5", b"6"], [b"5,"], [b"0x5"], [b"-1"], [b"1" * 20], [b"5 5"]])
def test_no_certain_length(values: list[bytes]) -> None:
    """Anything else is an error: two parsers could read two lengths."""
    with pytest.raises(HTTPGrammarError, match="Content-Length"):
        content_length(values)


def test_close_wins_on_every_line() -> None:
    """``close`` ends a connection wherever it stands; HTTP/1.0 persists on request only (RFC 9112, 9.3)."""
    assert persists([], http_1_0=False)
    assert not persists([], http_1_0=True)
    assert persists([b"keep-alive"], http_1_0=True)
    assert persists([b"upgrade"], http_1_0=False)
    assert not persists([b"close", b"keep-alive"], http_1_0=False)
    assert not persists([b"keep-alive ,\tclose"], http_1_0=True)


def test_values_of_all_lines() -> None:
    """Every line of a name is found, in order, without blanks around its value."""
    lowered = b"http/1.1 200 ok\r\na: 1\r\nab: 2\r\na:\t3 \r\n\r\n"
    assert field_values(lowered, b"\r\na:") == [b"1", b"3"]
    assert field_values(lowered, b"\r\nc:") == []


def test_nobody_has_a_grammar_besides() -> None:
    """The characters of a token are written in one file of the package."""
    others = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if any(mark in path.read_text(encoding="utf-8") for mark in ("!#$%&'*+", "^_`|~"))
    }
    assert others - {"core/http/grammar.py"} == OTHER_GRAMMARS
