"""A server in its own thread serves blocking clients and ends when told."""

from __future__ import annotations

import http.client
import json
import threading

import pytest

from openaiasync.demo import demo_app
from openaiasync.server import serve, start_in_thread

from .wire import SAY_HELLO


def test_blocking_client() -> None:
    """The standard library's client is served while the calling thread does nothing for the server."""
    with start_in_thread(serve(demo_app(api_key="k"))) as server:
        assert server.base_url == f"http://127.0.0.1:{server.port}/v1"
        client = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        try:
            headers = {"Content-Type": "application/json", "Authorization": "Bearer k"}
            for _ in range(3):
                client.request("POST", "/v1/chat/completions", json.dumps(SAY_HELLO), headers)
                answer = json.loads(client.getresponse().read())
                assert answer["choices"][0]["message"]["content"] == "Hello! What can I do for you?"
        finally:
            client.close()
        assert server.server.requests == 3
    server.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "openaiasync-server"]


def test_failure_to_start() -> None:
    """What starting raised is raised in the caller's thread."""
    with start_in_thread(serve(demo_app())) as server, pytest.raises(OSError, match=str(server.port)):
        start_in_thread(serve(demo_app(), port=server.port))
