"""The intended differences from the official client: the one table, tested here and shown in
docs/coming-from-openai.md.

Differences of requests and answers have a function that removes them from the official client's results; `test_oracle`
fails for a function that was never needed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["ANSWERS", "OTHERS", "REQUESTS", "Difference"]

Sent = dict[str, Any]


class Difference(NamedTuple):
    """One row. `apply` changes the official client's request (or answer) into ours where the difference shows."""

    what: str
    official: str
    ours: str
    reason: str
    apply: Callable[[str, Any, Any], Any] = lambda method, theirs, ours: theirs


def _no_content_type(method: str, theirs: Sent, ours: Sent) -> Sent:
    fields = theirs["fields"]
    if theirs["body"] == b"" and fields.get("content-type") == "application/json":
        fields = {name: value for name, value in fields.items() if name != "content-type"}
    return {**theirs, "fields": fields}


def _accept(method: str, theirs: Sent, ours: Sent) -> Sent:
    here, there = theirs["fields"].get("accept", ""), ours["fields"].get("accept")
    if (there == "*/*" and (here.startswith("application/") or here == "*/*")) or there == "text/event-stream":
        return {**theirs, "fields": {**theirs["fields"], "accept": there}}
    return theirs


REQUESTS = (
    Difference(
        "`Content-Type` of a request without a body",
        "`application/json`",
        "none",
        "a request without content has no content type (RFC 9110, section 8.3)",
        _no_content_type,
    ),
    Difference(
        "`Accept` of streams, binary answers and texts",
        "mostly `application/json`, or a guess",
        "`text/event-stream` for streams, else `*/*`",
        "it names the expected type; OpenAI-compatible servers ignore it",
        _accept,
    ),
)


ANSWERS: tuple[Difference, ...] = ()

OTHERS = (
    Difference(
        "`X-Stainless-*` header fields",
        "system, versions, retries, timeouts",
        "`x-stainless-retry-count`, and the two that tell servers about a polling helper",
        "servers need not know the machine",
    ),
    Difference(
        "Methods that are not in the public description (see the list of methods)",
        "separate types",
        "open objects: any parameter, any attribute",
        "their types are not published",
    ),
    Difference(
        "Fields newer than the public description",
        "typed",
        "in `.extra` and as attributes, with plain values, under their names on the wire (`async`, not `async_`)",
        "they are typed once the description contains them",
    ),
    Difference(
        "`extra_body` of a GET",
        "ignored",
        "sent",
        "the caller gave it",
    ),
    Difference(
        "An event `error` in a stream of another kind",
        "delivered like any event if it has no field `error`",
        "raises `APIError`",
        "errors are recognised in any form",
    ),
    Difference(
        "`provider=` (Bedrock, Vertex)",
        "signs requests for other clouds",
        "missing; servers that accept a bearer token work with `base_url` and an asynchronous `api_key`",
        "request signing is another provider's protocol",
    ),
    Difference(
        "`get_token` of the providers in `openai.auth`",
        "blocks",
        "asynchronous if it calls a server or reads a file; your own may block and runs in a thread",
        "an event loop must not wait",
    ),
    Difference(
        "Workload identity and WebSockets",
        "refused together",
        "a connection is opened with a token, and with a renewed one after a 401",
        "a token works like any key",
    ),
    Difference(
        "`azure_ad_token_provider` that blocks",
        "blocks the event loop",
        "runs in a thread",
        "other tasks use the loop too",
    ),
    Difference(
        "A WebSocket that ends with a code other than 1000",
        "ends the iteration for 1001, otherwise raises exceptions of `websockets`",
        "raises `WebSocketConnectionClosedError`, an `APIConnectionError`; `APITimeoutError` for an unanswered ping",
        "one tree of errors, and a lost connection does not look like a normal end",
    ),
    Difference(
        "A WebSocket whose upgrade is refused",
        "raises exceptions of `websockets`",
        "raises the error of the status, like any call",
        "the same",
    ),
    Difference(
        "Exceptions of `on_reconnecting`, and permanent error statuses, while a WebSocket reconnects",
        "suppressed; the first close is raised",
        "raised",
        "the last error is the one to fix",
    ),
    Difference(
        "Maximum size of a WebSocket message",
        "unlimited",
        "50 MiB, or `max_size`",
        "a server must not exhaust the memory",
    ),
    Difference(
        "`openai.RequestOptions`",
        "the `options` of `client.get`, `client.post`, …",
        "`RequestOptions` are the keywords of every method; `options=` is a plain mapping of the official names",
        "the name describes the options in daily use",
    ),
    Difference(
        "Deprecated methods",
        "warn at each call",
        "do not warn",
        "the docs mark them; a server may still require them",
    ),
    Difference(
        "A received field that is not declared",
        "typed attribute access to anything",
        "an attribute at run time, `.extra` for type checkers",
        "a misspelt field is reported",
    ),
    Difference(
        "A parameter that does not exist",
        "`TypeError`",
        "`TypeError` with the nearest name; `extra_body` takes parameters of providers",
        "the same, with a hint",
    ),
    Difference(
        "A stream that ends before its terminal event",
        "ends like a complete one",
        "raises `IncompleteStreamError` after the received events",
        "a truncated answer must not look complete",
    ),
    Difference(
        "An invalid answer (a web page, an error object with status 200, JSON instead of events)",
        "a `str`, an object without fields, or an empty stream",
        "an `APIError`, or its subclass `APIResponseValidationError` for anything but an error object",
        "the error is raised where it occurs, not three calls later",
    ),
    Difference(
        "An answer of `embeddings.create` without data",
        "`ValueError`",
        "`EmptyAnswerError`, a `ValueError` and an `APIError`",
        "caught by either",
    ),
    Difference(
        "An answer that does not fit the requested type",
        "`pydantic.ValidationError`",
        "`StructuredOutputError`, caused by it, with the answer",
        "a call raises only this library's errors, and an answer that was paid for is not lost",
    ),
    Difference(
        "`to_dict()` of parsed answers, and requests that hold them",
        "`parsed` and `parsed_arguments` of chat answers are part of it",
        "exactly the received fields",
        "a server may refuse unknown fields",
    ),
    Difference(
        "`parsed` of `content.delta`",
        "without unfinished texts, from the second piece on",
        "with unfinished texts so far, one object that grows, also on `response.output_text.delta`",
        "each piece is parsed once, and partial values can be shown",
    ),
    Difference(
        "Types for `response_format` and `text_format`",
        "pydantic models and dataclasses",
        "these, Structs, `TypedDict`s, lists, unions, `Literal`s",
        "any type with a JSON schema",
    ),
    Difference(
        "`get_final_response()` of a response that failed or is incomplete",
        "`RuntimeError`",
        "`UnfinishedResponseError`, a `RuntimeError`, with the response",
        "it has the partial response",
    ),
    Difference(
        "Helpers that wait",
        "`TimeoutError` or `RuntimeError` if there is a limit",
        "`PollTimeoutError`, which is both, with the object; `deadline=` limits every one of them",
        "an unlimited wait is rarely intended",
    ),
    Difference(
        "`upload_file_chunked` that fails",
        "leaves the upload open",
        "cancels it; also takes open files and `md5=True`",
        "the server need not keep an upload that will not be completed",
    ),
    Difference(
        "A file without a name, `(None, content)`",
        "a text field of the form",
        "a file named `upload`, with an extension if the content shows its type",
        "servers refuse a text field in place of a file",
    ),
    Difference(
        "`on_tool_call_done` of an assistant's handler",
        "called a second time when the run ends",
        "called once",
        "a call is completed once",
    ),
    Difference(
        "`httpx2` in signatures and errors",
        "`error.response`, `.request`, `raw.http_response` are httpx2's",
        "objects of this library with status, headers, URL, method, content",
        "httpx2 is not required; `http_client=` takes an `httpx2.AsyncClient`, "
        "and `cast_to=httpx2.Response` returns one",
    ),
    Difference(
        "Types that are copies of each other (`RoleRetrieveResponse`, `RoleListResponse`, …)",
        "separate classes",
        "one class under all the names",
        "they have the same fields",
    ),
    Difference(
        "The synchronous `OpenAI`",
        "there",
        "not there",
        "this library is for asyncio",
    ),
)
