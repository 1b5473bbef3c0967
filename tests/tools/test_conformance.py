"""The table of docs/which-server.md: made of what `doctor` finds, and written between its marks."""

from __future__ import annotations

import asyncio

import conformance
from conformance import PAGE, ROWS, Checked, cell, check, table
from openaiasync.demo import demo_app
from openaiasync.server import serve, start_in_thread


def test_the_demo_server_has_everything() -> None:
    """The checks run against a server, and every row of the table is found in them."""
    with start_in_thread(serve(demo_app())) as server:
        found = asyncio.run(check("demo", server.base_url, None))
    assert {cell(found, name, field) for _, name, field in ROWS} == {"yes"}


def test_what_a_server_lacks() -> None:
    """A failed or refused check is "no", one that was skipped or has not the field is a dash."""
    server = Checked(
        "x",
        {
            "chat": {"state": "warning", "text": "", "usage": False},
            "stream": {"state": "ok", "text": "", "usage": True},
            "tools": {"state": "warning", "text": "", "supported": False},
            "embeddings": {"state": "skipped", "text": ""},
        },
    )
    cells = [line.split("|")[2].strip() for line in table([server]).splitlines()[2:]]
    assert cells == ["–", "no", "no", "yes", "yes", "–", "no", "–", "–", "–", "–"]


def test_the_page_has_the_table_of_this_script() -> None:
    """The rows of the published table are those that would be written."""
    text = PAGE.read_text(encoding="utf-8")
    block = text.partition(conformance.BEGIN)[2].partition(conformance.END)[0]
    assert [line.split("|")[1].strip() for line in block.splitlines()[2:]] == [title for title, _, _ in ROWS]
    assert "llama.cpp" in block.splitlines()[0]
