"""What differs from the official client on purpose: the one table, tested here and shown in docs/coming-from-openai.md.

Those of requests and answers come with a function that takes the difference away from what the official client gave;
`test_oracle` fails for a function that was never needed.
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
        "there is no content whose type it could be (RFC 9110, section 8.3)",
        _no_content_type,
    ),
    Difference(
        "`Accept` of streams, binary answers and texts",
        "mostly `application/json`, or a guess",
        "`text/event-stream` for streams, else `*/*`",
        "it says what is wanted; servers of OpenAI's kind ignore it",
        _accept,
    ),
)


ANSWERS: tuple[Difference, ...] = ()

OTHERS = (
    Difference(
        "`X-Stainless-*` header fields",
        "system, versions, retries, timeouts",
        "`x-stainless-retry-count`, and the two by which servers know that a helper waits",
        "nobody needs to know the machine",
    ),
    Difference(
        "Methods that the public description does not hold (see the list of methods)",
        "types of their own",
        "open objects: any parameter, any attribute",
        "their types are not published",
    ),
    Difference(
        "Fields newer than the public description",
        "typed",
        "there as `.extra` and attributes, with plain values, under their names on the wire (`async`, not `async_`)",
        "they get types when the description has them",
    ),
    Difference(
        "`extra_body` of a GET",
        "ignored",
        "sent",
        "it was asked for",
    ),
    Difference(
        "An event `error` in a stream of another kind",
        "delivered like any event, where it has no field `error`",
        "raises `APIError`",
        "an error is one in whatever shape it comes",
    ),
    Difference(
        "`provider=` (Bedrock, Vertex)",
        "signs requests for other clouds",
        "not there: `base_url`, and an asynchronous `api_key`, do where a bearer token is taken",
        "signing is another provider's protocol",
    ),
    Difference(
        "`get_token` of the providers in `openai.auth`",
        "blocks",
        "asynchronous where it asks a server or reads a file; one of your own may block, in a thread",
        "an event loop must not wait",
    ),
    Difference(
        "Workload identity and WebSockets",
        "refused together",
        "a connection is opened with a token, and once more after a 401",
        "a key is a key",
    ),
    Difference(
        "`azure_ad_token_provider` that blocks",
        "blocks the event loop",
        "runs in a thread",
        "others use the loop too",
    ),
    Difference(
        "A WebSocket that ends with another code than 1000",
        "ends the iteration for 1001, else raises exceptions of `websockets`",
        "raises `WebSocketConnectionClosedError`, an `APIConnectionError`; `APITimeoutError` when no ping is answered",
        "one tree of errors, and no end that looks like another",
    ),
    Difference(
        "A WebSocket whose upgrade is refused",
        "raises exceptions of `websockets`",
        "raises the error of the status, as any call",
        "the same",
    ),
    Difference(
        "What `on_reconnecting` raises, and a status that will not change, while a WebSocket is made again",
        "swallowed: the first end is raised",
        "raised",
        "what went wrong last is what has to be mended",
    ),
    Difference(
        "Size of a WebSocket's message",
        "unlimited",
        "50 MiB, or `max_size`",
        "a server must not fill the memory",
    ),
    Difference(
        "`openai.RequestOptions`",
        "the `options` of `client.get`, `client.post`, …",
        "`RequestOptions` are the keywords every method takes; `options=` is a plain mapping of the official words",
        "the name was free for what is used every day",
    ),
    Difference(
        "Deprecated methods",
        "warn each time they are called",
        "are called in silence",
        "the docs say so; a server may still want them",
    ),
    Difference(
        "A field that came and is not declared",
        "typed attribute access to anything",
        "an attribute at run time, `.extra` for type checkers",
        "a misspelt field is reported",
    ),
    Difference(
        "A parameter that does not exist",
        "`TypeError`",
        "`TypeError` that names the nearest one; `extra_body` takes what a provider adds",
        "the same, with a hint",
    ),
    Difference(
        "A stream that ends before its terminal event",
        "ends like a complete one",
        "raises `IncompleteStreamError` after what came",
        "half an answer must not look whole",
    ),
    Difference(
        "An answer that is no answer (a web page, an error object with status 200, JSON where events were asked for)",
        "a `str`, an object without fields, or an empty stream",
        "an `APIError`, `APIResponseValidationError` for what is no answer at all",
        "found where it happens, not three calls later",
    ),
    Difference(
        "`embeddings.create` answered without data",
        "`ValueError`",
        "`EmptyAnswerError`, a `ValueError` and an `APIError`",
        "caught by either",
    ),
    Difference(
        "An answer that does not fit the type asked for",
        "`pydantic.ValidationError`",
        "`StructuredOutputError`, caused by it, with the answer",
        "nothing but this library's errors leaves a call, and what was paid for is not lost",
    ),
    Difference(
        "`to_dict()` of parsed answers, and requests that hold them",
        "`parsed` and `parsed_arguments` of chat answers are part of it",
        "exactly what came",
        "a server may refuse fields that it does not know",
    ),
    Difference(
        "`parsed` of `content.delta`",
        "without texts that are torn, from the second piece on",
        "with torn texts as far as they came, one object that grows, also on `response.output_text.delta`",
        "each piece is read once, and there is something to show",
    ),
    Difference(
        "Types for `response_format` and `text_format`",
        "pydantic models and dataclasses",
        "these, Structs, `TypedDict`s, lists, unions, `Literal`s",
        "whatever a schema can be made of",
    ),
    Difference(
        "`get_final_response()` of a response that failed or is incomplete",
        "`RuntimeError`",
        "`UnfinishedResponseError`, a `RuntimeError`, with the response",
        "it says how it ended",
    ),
    Difference(
        "Helpers that wait",
        "`TimeoutError` or `RuntimeError` where there is a limit",
        "`PollTimeoutError`, which is both, with the object; `deadline=` limits every one of them",
        "a wait without end is rarely meant",
    ),
    Difference(
        "`upload_file_chunked` that fails",
        "leaves the upload open",
        "cancels it; also takes open files and `md5=True`",
        "the server need not keep what nobody will complete",
    ),
    Difference(
        "A file without a name, `(None, content)`",
        "a text field of the form",
        "a file named `upload`, with an ending where the content tells its kind",
        "servers refuse a file that is not one",
    ),
    Difference(
        "`on_tool_call_done` of an assistant's handler",
        "called again when the run ends",
        "called once",
        "a call is done once",
    ),
    Difference(
        "`httpx2` in signatures and errors",
        "`error.response`, `.request`, `raw.http_response` are httpx2's",
        "objects of our own with status, headers, URL, method, content",
        "httpx2 is not needed; `http_client=` takes an `httpx2.AsyncClient` for who wants it, "
        "and `cast_to=httpx2.Response` gives one",
    ),
    Difference(
        "Types that are copies of one another (`RoleRetrieveResponse`, `RoleListResponse`, …)",
        "a class each",
        "one class under all the names",
        "they have the same fields",
    ),
    Difference(
        "The synchronous `OpenAI`",
        "there",
        "not there",
        "this is a library for asyncio",
    ),
)
