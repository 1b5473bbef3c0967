"""Requests to Azure: what `AsyncAzureOpenAI` of both libraries sends for the same calls."""

from __future__ import annotations

import asyncio
import functools
import warnings
from typing import Any

import pytest

import openaiasync
from conftest import run
from scripted import CHAT, Seen, json_answer, scripted

from .differences import REQUESTS
from .recorder import structure

openai = pytest.importorskip("openai")

pytestmark = [pytest.mark.peers, pytest.mark.timeout(60)]

MESSAGES = [{"role": "user", "content": "hi"}]
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("chat.completions.create", {"model": "gpt 4/x", "messages": MESSAGES}),
    ("completions.create", {"model": "m", "prompt": "a"}),
    ("embeddings.create", {"model": "m", "input": "a", "encoding_format": "float"}),
    ("images.generate", {"model": "m", "prompt": "a"}),
    ("images.generate", {"prompt": "a"}),
    ("images.edit", {"model": "m", "prompt": "a", "image": b"x"}),
    ("audio.transcriptions.create", {"model": "m", "file": b"x"}),
    ("audio.translations.create", {"model": "m", "file": b"x"}),
    ("audio.speech.create", {"model": "m", "voice": "alloy", "input": "a"}),
    ("responses.create", {"model": "m", "input": "a"}),
    ("moderations.create", {"model": "m", "input": "a"}),
    ("models.list", {}),
    ("files.list", {"limit": 2, "extra_query": {"x": 1}}),
    ("beta.threads.create", {}),
    ("chat.completions.create", {"model": "m", "messages": MESSAGES, "extra_headers": {"api-key": "other"}}),
]
OPTIONS: dict[str, dict[str, Any]] = {
    "model": {},
    "deployment": {"azure_deployment": "my one"},
    "token": {"api_key": None, "azure_ad_token": "token"},
    "provider": {"api_key": None, "azure_ad_token_provider": lambda: "token"},
    "base": {"azure_endpoint": None, "base_url": "/v9"},
    "base of a deployment": {"azure_endpoint": None, "base_url": "/openai/deployments/d"},
    "organization": {"organization": "org", "project": "proj", "default_query": {"q": [1]}},
}


@pytest.mark.parametrize("kind", list(OPTIONS))
def test_the_same_requests(kind: str) -> None:
    """Path, query, credentials and body, for every way to configure it."""

    async def script(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(json_answer(CHAT if seen.method == "POST" else {"object": "list", "data": []}))

    async def main() -> None:
        async with scripted(script) as server:
            root = server.url.removesuffix("/v1")
            options = {"azure_endpoint": root, "api_key": "key", "api_version": "v", "max_retries": 0, **OPTIONS[kind]}
            if "base_url" in options:
                options["base_url"] = root + options["base_url"]
            async with openai.AsyncAzureOpenAI(**options) as theirs, openaiasync.AsyncAzureOpenAI(**options) as ours:
                for method, params in CALLS:
                    sent: list[dict[str, Any]] = []
                    for client in (theirs, ours):
                        server.seen.clear()
                        try:
                            warnings.simplefilter("ignore", DeprecationWarning)  # theirs warns of deprecated methods
                            await functools.reduce(getattr, method.split("."), client)(**params)
                        except (openai.OpenAIError, openaiasync.OpenAIError, AttributeError, TypeError):
                            assert server.seen  # the answer is always a chat
                        seen = server.seen[0]
                        sent.append({**structure(seen), "key": seen.headers.get("api-key")})
                    expected = sent[0]
                    for difference in REQUESTS:
                        expected = difference.apply(method, expected, sent[1])
                    expected["fields"].pop("accept", None)
                    sent[1]["fields"].pop("accept", None)
                    assert sent[1] == expected, method

    run(main())


def test_the_same_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be configured there cannot be here, and the other way round."""
    base = {"azure_endpoint": "http://127.0.0.1:1", "api_key": "key", "api_version": "v"}
    for change in (
        {"api_key": None},
        {"api_version": None},
        {"azure_endpoint": None},
        {"base_url": "http://127.0.0.1:1"},
        {"azure_ad_token": "t"},
        {"azure_ad_token_provider": lambda: "t"},
    ):
        options: Any = {**base, **change}
        with pytest.raises((openai.OpenAIError, ValueError)):
            openai.AsyncAzureOpenAI(**options)
        with pytest.raises(openaiasync.OpenAIError):
            openaiasync.AsyncAzureOpenAI(**options)
