"""The official client, sync and async, and curl, through a front: they see what they would see without it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest

from openaiasync.server import Front, start_in_thread
from openaiasync.testing import FakeServer

pytestmark = pytest.mark.peers
openai = pytest.importorskip("openai")

HI: Any = [{"role": "user", "content": "Why is the sky blue?"}]


@contextmanager
def fronted(**options: Any) -> Generator[tuple[FakeServer, str]]:
    with FakeServer() as upstream, start_in_thread(Front([upstream.url], **options).listener()) as server:
        yield upstream, server.base_url


def test_the_official_client() -> None:
    """Whole answers, streams, errors with their classes, uploads and raw headers."""
    with fronted() as (upstream, url), openai.OpenAI(base_url=url, api_key="sk-test", max_retries=0) as client:
        upstream.reply("It scatters light.", headers={"X-Request-ID": "req-7"}).stream(["It ", "scatters"])
        raw = client.chat.completions.with_raw_response.create(messages=HI, model="m")
        assert raw.headers["x-request-id"] == "req-7"
        assert raw.parse().choices[0].message.content == "It scatters light."
        chunks = list(client.chat.completions.create(messages=HI, model="m", stream=True))
        assert [chunk.choices[0].delta.content for chunk in chunks] == ["It ", "scatters", None]
        upstream.fail(404, "no such model", code="model_not_found").reply("said")
        with pytest.raises(openai.NotFoundError, match="no such model"):
            client.chat.completions.create(messages=HI, model="m")
        assert client.audio.transcriptions.create(file=("a.wav", b"RIFF" * 500_000), model="m").text == "said"
        upstream.cut(after=2)
        with pytest.raises(openai.APIError):
            list(client.chat.completions.create(messages=HI, model="m", stream=True))
        assert all(request.headers["authorization"] == "Bearer sk-test" for request in upstream.requests)


def test_its_retries_meet_the_queue() -> None:
    """A 429 of the front has a Retry-After that the client follows."""
    with fronted(keys=[], max_retries=1) as (upstream, url), openai.OpenAI(base_url=url, api_key="x") as client:
        upstream.fail(429, retry_after=0).fail(429, retry_after=0).reply("at last")
        answer = client.chat.completions.create(messages=HI, model="m")
        assert answer.choices[0].message.content == "at last"
        assert len(upstream.requests) == 3


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_curl() -> None:
    """With a large body, curl asks before it sends (Expect), and shows events as they come."""
    with fronted() as (upstream, url):
        upstream.stream(["a", "b"]).reply("large")
        command = [
            "curl",
            "-sSN",
            "--fail-with-body",
            "-H",
            "Content-Type: application/json",
            f"{url}/chat/completions",
        ]
        body = json.dumps({"model": "m", "messages": HI, "stream": True})
        done = subprocess.run([*command, "-d", body], capture_output=True, timeout=20, check=True)
        assert done.stdout.endswith(b"data: [DONE]\n\n")
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 2_000_000}]})
        done = subprocess.run([*command, "-d", "@-"], input=body.encode(), capture_output=True, timeout=20, check=True)
        assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "large"
        assert len(upstream.requests[1].body) == len(body)
