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


def _unset_parts(method: str, theirs: Any, ours: Any) -> Any:
    """Nulls that only ours shows: required fields that never came, in objects within an answer and in events."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        added = {name: None for name, value in ours.items() if value is None and name not in theirs}
        return {name: _unset_parts(method, value, ours.get(name)) for name, value in theirs.items()} | added
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [_unset_parts(method, here, there) for here, there in zip(theirs, ours, strict=True)]
    return theirs


ANSWERS = (
    Difference(
        "`to_dict()` of an event that lacks a required field",
        "leaves the field out",
        "shows it as `None`",
        "events do not keep the bytes they came from; whole answers do, and leave it out",
        _unset_parts,
    ),
)

OTHERS = (
    Difference(
        "`X-Stainless-*` header fields",
        "system, versions, retries, timeouts",
        "`x-stainless-retry-count` alone",
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
        "`workload_identity=`, `provider=`",
        "other ways to authorise",
        "not there: `api_key` may be an asynchronous function that fetches a token",
        "one way that fits all of them",
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
        "`httpx2` in signatures and errors",
        "`error.response`, `.request`, `raw.http_response` are httpx2's",
        "objects of our own with status, headers, URL, method, content",
        "httpx2 is not needed; `http_client=` takes an `httpx2.AsyncClient` for who wants it",
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
