"""examples/embeddings_pgvector.py against a real PostgreSQL with pgvector."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from openaiasync.demo import demo_app
from openaiasync.server.http import serve
from openaiasync.server.thread import start_in_thread
from postgres import postgres

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "embeddings_pgvector.py"
CATS = {"Cats sleep most of the day.", "A kitten naps in the afternoon sun."}

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there is no wheel of PostgreSQL for this system"),
    pytest.mark.timeout(200),
]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with start_in_thread(serve(demo_app())) as server:
        yield server.base_url


@pytest.mark.parametrize("time", ["first", "second"])
def test_texts_are_stored_and_found(time: str, database: str, api: str) -> None:
    """The nearest texts are printed, the refused one is named, and a second run doubles nothing."""
    import psycopg

    environment = {"DATABASE_URL": database, "OPENAI_BASE_URL": api, "OPENAI_API_KEY": "k", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    refused, *found = done.stdout.splitlines()
    assert refused == "not stored: texts[1], refused with 400"
    assert found[0].endswith("Cats sleep most of the day.")
    assert len(found) == 2
    with psycopg.connect(database) as db:
        rows = db.execute("SELECT text, vector_dims(embedding), vector_norm(embedding) FROM notes").fetchall()
    assert len(rows) == 4
    assert {text for text, _, _ in rows} > CATS
    assert all(dimensions == 256 and abs(norm - 1) < 1e-5 for _, dimensions, norm in rows)
