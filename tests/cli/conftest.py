"""The built-in server, once for all commands that just need somebody to talk to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from openaiasync.server import ServerThread, demo_app, serve, start_in_thread


@pytest.fixture(scope="package")
def server() -> Iterator[ServerThread]:
    with start_in_thread(serve(demo_app())) as running:
        yield running
