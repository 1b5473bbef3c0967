"""`openaiasync doctor`: checks this machine, the connection to a server, and the features of the server."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from ..errors import (
    APIConnectionError,
    APIError,
    APIResponseValidationError,
    APITimeoutError,
    AuthenticationError,
    NotFoundError,
    OpenAIError,
)
from ..lazy import resolve_annotations
from ..version import __version__
from .console import Exit, out, printable, write_bytes
from .network_checks import Finding, check_network
from .usage_errors import in_flags

if TYPE_CHECKING:
    from ..client import Client
    from ..types.chat import ChatCompletionFunctionToolParam
    from ..types.shared_params import ResponseFormatJSONSchema
    from .arguments import ServerOptions

__all__ = ["run_doctor"]

SKEW = 60.0  # seconds of difference from the server's clock that are worth a warning
PATIENCE = 60.0  # seconds for each call: a model may have to be loaded
_SYMBOLS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "failed": ("FAILED", "bold red")}
_COLOURS: dict[str, object] = {
    "type": "object",
    "properties": {"colour": {"type": "string"}},
    "required": ["colour"],
    "additionalProperties": False,
}
_WEATHER: ChatCompletionFunctionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Return the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def run_doctor(
    server: ServerOptions, model: str | None, embedding_model: str | None, calls: bool, as_json: bool
) -> int:
    """Print each finding as it is made, or all as one JSON object; return exit code 1 if a check failed."""
    findings: list[Finding] = []

    async def collect() -> None:
        async for finding in diagnose(server, model, embedding_model, calls):
            findings.append(finding)
            if not as_json and sys.stdout.isatty():
                print(f"\r{finding.name:<20}", end="", file=sys.stderr)

    asyncio.run(collect())
    if not as_json and sys.stdout.isatty():
        print("\r" + " " * 20 + "\r", end="", file=sys.stderr)
    if as_json:
        shown = [{"name": f.name, "state": f.state, "text": f.text, "advice": f.advice, **f.data} for f in findings]
        write_bytes(json.dumps({"findings": shown}, indent=2, ensure_ascii=False).encode() + b"\n")
    else:
        out().print(_table(findings))
    return Exit.FAILED if any(finding.state == "failed" for finding in findings) else Exit.OK


def _table(findings: list[Finding]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("finding", overflow="fold")
    for finding in findings:
        word, style = _SYMBOLS.get(finding.state, (finding.state, "dim"))
        text = Text(printable(finding.text))
        if finding.advice:
            text.append(("\n" if finding.text else "") + printable(finding.advice), style="italic")
        table.add_row(finding.name, Text(word, style=style), text)
    return table


async def diagnose(
    server: ServerOptions, model: str | None, embedding_model: str | None, calls: bool = True
) -> AsyncIterator[Finding]:
    """Yield the findings one by one: this machine, the connection to the server, the API, its features.

    `calls=False` sends nothing that a server could charge for.
    """
    yield _versions()
    try:
        client = server.client(http_timeout=PATIENCE, http_max_in_flight=4, max_retries=0)
    except OpenAIError as error:
        yield Finding("client", "failed", in_flags(str(error)))
        return
    async with client:
        yield _key(server, client)
        async for finding in check_network(str(client.base_url), dict(os.environ)):
            yield finding
            if finding.state == "failed":
                return
        api = _ApiChecks(client, model, embedding_model)
        async for finding in api.run(calls):
            yield finding


def _versions() -> Finding:
    data = {
        "openaiasync": __version__,
        "python": platform.python_version(),
        "msgspec": msgspec.__version__,
        "openssl": ssl.OPENSSL_VERSION,
        "system": f"{platform.system()} {platform.machine()}",
    }
    text = (
        f"openaiasync {data['openaiasync']}, Python {data['python']}, msgspec {data['msgspec']}, "
        f"{data['openssl']}, {data['system']}"
    )
    return Finding("versions", "ok", text, data=data)


def _key(server: ServerOptions, client: Client) -> Finding:
    """Return the finding about the key's source; only the key's length is shown."""
    key, source = server.api_key, "--api-key"
    if not key:
        key, source = os.environ.get("OPENAI_API_KEY"), "OPENAI_API_KEY"
    if not key:
        key, source = server.find_key(), "openaiasync keys"
    if not key:
        return Finding("key", "ok", "none: most local servers need none", data={"source": None})
    return Finding("key", "ok", f"{len(key)} characters, from {source}", data={"source": source, "length": len(key)})


class _ApiChecks:
    """The checks that call the API."""

    def __init__(self, client: Client, model: str | None, embedding_model: str | None) -> None:
        self.client = client
        self.model: str | None = model
        self.embedding_model: str | None = embedding_model

    async def run(self, calls: bool) -> AsyncIterator[Finding]:
        models = await self._models()
        yield models
        if models.state == "failed":
            return
        skew = self._skew(models)
        if skew is not None:
            yield skew
        if not calls:
            return
        if self.model is None:
            yield Finding("chat", "skipped", "the server lists no chat model", "Name one with --model.")
        else:
            whole = await self._checked("chat", self._chat)
            yield whole
            if whole.state != "failed":
                yield await self._checked("stream", self._stream)
                yield await self._checked("tools", self._tools)
                yield await self._checked("schema", self._schema)
                yield await self._checked("responses", self._responses)
        if self.embedding_model is None:
            yield Finding("embeddings", "skipped", "no embedding model", "Name one with --embedding-model.")
        else:
            yield await self._checked("embeddings", self._embeddings)

    async def _checked(self, name: str, check: Callable[[], Awaitable[Finding]]) -> Finding:
        """Return the finding of a feature's check. A feature that the server lacks is a warning."""
        try:
            return await check()
        except AuthenticationError as error:
            return Finding(name, "failed", _words(error), "The server refuses the key.")
        except OpenAIError as error:
            essential = name in ("chat", "stream")
            return Finding(name, "failed" if essential else "warning", _words(error), data={"supported": False})

    async def _models(self) -> Finding:
        began = time.perf_counter()
        try:
            page = await self.client.models()
        except OpenAIError as error:
            return await self._models_failed(error)
        took = (time.perf_counter() - began) * 1000
        names = [str(model.id) for model in page.data]
        chat = [name for name in names if "embed" not in name.lower()]
        embedding = [name for name in names if "embed" in name.lower()]
        self.model = self.model or next(iter(chat), None)
        self.embedding_model = self.embedding_model or next(iter(embedding), None)
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        server = page.meta.headers.get("server")
        text = f"{len(names)} models in {took:.0f} ms: {shown}" if names else f"no model, in {took:.0f} ms"
        data = {"models": names, "ms": took, "server": server, "date": page.meta.headers.get("date")}
        if server:
            text += f" (server: {server})"
        return Finding("models", "ok" if names else "warning", text, data=data)

    async def _models_failed(self, error: OpenAIError) -> Finding:
        if isinstance(error, AuthenticationError):
            advice = "The server refuses the key. Does it belong to this server, and is it still valid?"
            return Finding("models", "failed", _words(error), advice)
        if isinstance(error, APITimeoutError):
            text = "the port takes connections, but no answer came in time"
            advice = "Is this an HTTP server, and is it overloaded or stopped? --timeout waits longer."
            return Finding("models", "failed", text, advice)
        if isinstance(error, APIConnectionError):
            return Finding("models", "failed", _words(error))
        base = str(self.client.base_url).rstrip("/")
        if not base.endswith("/v1") and await self._is_api(base + "/v1"):
            return Finding("models", "failed", _words(error), f"The API is at {base}/v1: use that as the base URL.")
        if isinstance(error, NotFoundError) and self.model is not None:
            text = "the server does not list models"
            return Finding("models", "warning", text, data={"supported": False})
        if _is_web_page(error):
            advice = "This is a web page, perhaps a user interface or a login; the API has another port or path."
            return Finding("models", "failed", _words(error), advice)
        advice = "Is this the base URL of an OpenAI-compatible API? Most end in /v1."
        return Finding("models", "failed", _words(error), advice)

    async def _is_api(self, base: str) -> bool:
        try:
            async with self.client.copy(api_base=base) as other:
                await other.models()
        except AuthenticationError:
            return True
        except OpenAIError:
            return False
        return True

    def _skew(self, models: Finding) -> Finding | None:
        """Return the finding about this clock's difference from the server's: tokens and signatures depend on it."""
        try:
            seconds = time.time() - parsedate_to_datetime(models.data.get("date") or "").timestamp()
        except (TypeError, ValueError):
            return None
        text, data = f"{abs(seconds):.0f} s apart", {"skew": seconds}
        if abs(seconds) < SKEW:
            return Finding("clock", "ok", text, data=data)
        advice = "One of the two clocks is wrong; certificates and tokens depend on it."
        return Finding("clock", "warning", text, advice, data)

    async def _chat(self) -> Finding:
        began = time.perf_counter()
        answer = await self.client.chat("Reply with the one word: pong", model=self.model or "", max_tokens=64)
        took = (time.perf_counter() - began) * 1000
        usage = answer.usage
        data: dict[str, Any] = {"model": self.model, "ms": took, "usage": usage is not None, "served": answer.model}
        text = f"{_short(answer.text or answer.reasoning or '')} from {self.model} in {took:.0f} ms"
        if usage is None:
            return Finding("chat", "warning", text, "No usage: sessions and limits estimate the tokens.", data)
        return Finding("chat", "ok", f"{text}, {usage.prompt_tokens} + {usage.completion_tokens} tokens", data=data)

    async def _stream(self) -> Finding:
        began = time.perf_counter()
        first = 0.0
        pieces = 0
        async with self.client.chat.stream("Count from 1 to 9.", model=self.model or "", max_tokens=64) as stream:
            async for _ in stream:
                first = first or time.perf_counter()
                pieces += 1
            answer = await stream.final()
        start = ((first or time.perf_counter()) - began) * 1000
        usage = answer.usage is not None
        data = {"first_ms": start, "events": pieces, "usage": usage, "complete": stream.meta.complete}
        text = f"first event after {start:.0f} ms, {pieces} events, usage {'included' if usage else 'missing'}"
        if pieces < 2:
            return Finding("stream", "warning", text, "The server or a proxy sends the answer in one piece.", data)
        return Finding("stream", "ok", text, data=data)

    async def _tools(self) -> Finding:
        answer = await self.client.chat(
            "What is the weather in Oslo?",
            model=self.model or "",
            tools=[_WEATHER],
            tool_choice="required",
            max_tokens=256,
        )
        calls = (answer.message and answer.message.tool_calls) or []
        if not calls:
            text = "the model answered without calling the required tool"
            return Finding("tools", "warning", text, data={"supported": False})
        return Finding("tools", "ok", f"{len(calls)} call(s)", data={"supported": True})

    async def _schema(self) -> Finding:
        described: ResponseFormatJSONSchema = {
            "type": "json_schema",
            "json_schema": {"name": "colour", "schema": _COLOURS, "strict": True},
        }
        answer = await self.client.chat(
            "Name the colour of grass.", model=self.model or "", response_format=described, max_tokens=256
        )
        try:
            fits = isinstance(json.loads(answer.text or "")["colour"], str)
        except (ValueError, KeyError, TypeError):
            fits = False
        if not fits:
            text = f"the answer does not follow the schema: {_short(answer.text or '')}"
            return Finding("schema", "warning", text, data={"supported": False})
        return Finding("schema", "ok", "the answer follows the schema", data={"supported": True})

    async def _responses(self) -> Finding:
        answer = await self.client.responses.create(model=self.model or "", input="Reply with: pong")
        return Finding("responses", "ok", _short(answer.output_text), data={"supported": True})

    async def _embeddings(self) -> Finding:
        kinds: dict[str, bool] = {}
        numbers = 0
        for encoding in ("base64", "float"):
            raw = await self.client.embeddings.with_raw_response.create(
                model=self.embedding_model or "", input="pong", encoding_format=encoding
            )
            kinds[encoding] = ('"embedding": "' in raw.text or '"embedding":"' in raw.text) == (encoding == "base64")
            numbers = len(raw.parse().data[0].embedding)
        data = {"model": self.embedding_model, "dimensions": numbers, "base64": kinds["base64"]}
        text = f"{numbers} numbers from {self.embedding_model}, base64 {'supported' if kinds['base64'] else 'ignored'}"
        return Finding("embeddings", "ok", text, data=data)


def _is_web_page(error: OpenAIError) -> bool:
    """Return whether a 2xx is HTML. (An error status often is, from a gateway whose API is elsewhere.)"""
    response = getattr(error, "response", None)
    if not isinstance(error, APIResponseValidationError) or response is None:
        return False
    return str(response.text).lstrip()[:15].lower().startswith(("<!doctype html", "<html"))


def _words(error: OpenAIError) -> str:
    return in_flags(error.message if isinstance(error, APIError) else str(error))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return repr(line if len(line) <= 40 else line[:39] + "…")


resolve_annotations(__name__)
