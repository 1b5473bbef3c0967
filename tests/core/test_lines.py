"""Lines end with LF, CRLF or CR, and with nothing else."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import run
from openaiasync import Client
from openaiasync.core.http.lines import LineDecoder, split_lines
from scripted import Seen, answer, scripted

TEXTS = st.text(st.sampled_from("ab\r\n\u2028\u2029\x85\x0b\x0c\x1c"), max_size=30)


def reference(text: str) -> list[str]:
    lines = re.split("\r\n|\n|\r", text)
    return lines if lines[-1] else lines[:-1]


@given(TEXTS, st.integers(0, 30), st.integers(0, 30))
def test_a_text_has_the_same_lines_however_it_is_cut(text: str, one: int, other: int) -> None:
    """At once, or in pieces that may end between CR and LF; nothing is lost where the ends are kept."""
    begin, end = sorted((one, other))
    decoder = LineDecoder()
    pieces = [text[:begin], text[begin:end], text[end:]]
    lines = [line for piece in pieces for line in decoder.feed(piece)] + decoder.feed("", final=True)
    assert lines == split_lines(text) == reference(text)
    kept = split_lines(text, keep_ends=True)
    assert "".join(kept) == text
    assert [line.rstrip("\r\n") for line in kept] == reference(text)


ROWS = [{"custom_id": "1", "text": "a\u2028b\u2029c\x85d\x0b\x0c\x1c"}, {"custom_id": "2", "text": "€"}]
JSONL = "".join(json.dumps(row, ensure_ascii=False) + end for row, end in zip(ROWS, ["\r\n", "\n"], strict=True))


async def results(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(answer(JSONL.encode(), content_type="application/jsonl"))


@pytest.mark.parametrize("how", ["iter_lines", "aiter_lines", "streaming"])
def test_lines_of_a_results_file_are_its_rows(how: str) -> None:
    """A batch's results hold texts with U+2028 or U+0085 unescaped: each row stays one line of JSON."""

    async def main() -> list[str]:
        async with scripted(results) as server, Client(api_base=server.url) as client:
            if how == "streaming":
                async with client.with_streaming_response.files.content("f") as response:
                    return [line async for line in response.iter_lines()]
            content: Any = await client.files.content("f")
            if how == "iter_lines":
                return list(content.iter_lines())
            return [line async for line in content.aiter_lines()]

    assert [json.loads(line) for line in run(main())] == ROWS
