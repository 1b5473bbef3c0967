"""JSON that is invalid, too large, of another kind or of other types: an answer, or an error with the body in it."""

from __future__ import annotations

import json
from typing import Any

from openaiasync import APIError, APIResponseValidationError
from openaiasync.engine.failures import EmptyAnswerError
from scripted import CHAT, answer

from .harness import as_test
from .scenario import HANG, KEY, READ, Fails, Gives, Scenario

INVALID = Fails(APIResponseValidationError, side="server", retryable=False, meta=True, tries=1)
ERROR = Fails(APIError, side="server", meta=True, says="out of luck", tries=1)
HELLO = Gives("Hello.")
TEXT = json.dumps(CHAT)
ONE: dict[str, Any] = CHAT["choices"][0]  # type: ignore[index]


def sends(name: str, body: bytes | str | Any, expect: Gives | Fails, **more: Any) -> Scenario:
    if not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    raw = body if isinstance(body, bytes) else body.encode()
    return Scenario(name, (5,), (READ, answer(raw), HANG), expect, **more)


def choice(**fields: Any) -> dict[str, Any]:
    return {**CHAT, "choices": [{**ONE, **fields}]}


BODIES = [
    sends("NaN and Infinity", TEXT[:-1] + ', "x": NaN, "y": [-Infinity, Infinity]}', HELLO),
    sends("duplicate keys", TEXT[:-1] + ', "model": "n", "model": "o"}', HELLO),
    sends("nested 100,000 deep", TEXT[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}", INVALID),
    sends("nested 100,000 deep and cut", "[" * 100_000, INVALID),
    sends("objects 100,000 deep", '{"a":' * 100_000, INVALID),
    sends("a lone surrogate", TEXT.replace("Hello.", "a\\ud800b"), Gives("a\ud800b")),
    sends("an integer of 5,000 digits", TEXT[:-1] + ', "x": ' + "9" * 5_000 + "}", INVALID),
    sends("a float of 5,000 digits", TEXT[:-1] + ', "x": 1.' + "9" * 5_000 + "}", HELLO),
    sends("a number over every float", TEXT[:-1] + ', "x": 1e999}', Gives()),
    sends("a byte order mark", b"\xef\xbb\xbf" + TEXT.encode(), Gives()),
    sends("UTF-16", TEXT.encode("utf-16"), INVALID),
    sends("bytes that are no UTF-8", TEXT.encode().replace(b"Hello.", b"a\xffb"), Gives("a\ufffdb")),
    sends("a NUL", TEXT.replace("Hello.", "a\\u0000b"), Gives("a\0b")),
    sends("white space around", f"\r\n\t {TEXT} \n", HELLO),
    sends("cut", TEXT[:-9], INVALID),
    sends("two objects", TEXT + TEXT, INVALID),
    sends("empty", b"", INVALID),
    sends("white space alone", b"  \n", INVALID),
    sends("null", "null", INVALID),
    sends("true", "true", INVALID),
    sends("a number", "5", INVALID),
    sends("a string", '"Hello."', INVALID),
    sends("a list", [CHAT], INVALID),
    sends("HTML", "<html><body>502</body></html>", INVALID),
    sends("JSON lines", TEXT + "\n" + TEXT + "\n", INVALID),
    sends("an error object", {"error": {"message": "out of luck", "code": 500}}, ERROR),
    sends("an error text", {"error": "out of luck"}, ERROR),
    sends("vLLM's error", {"object": "error", "message": "out of luck", "code": 500}, ERROR),
    sends("a typed error", {"type": "error", "message": "out of luck"}, ERROR),
    sends("an error beside an answer", {**CHAT, "error": {"message": "out of luck"}}, ERROR),
    sends("an error of null beside an answer", {**CHAT, "error": None}, HELLO),
    sends("an echoed key", {"error": {"message": f"out of luck, {KEY}"}}, ERROR),
    sends("an echoed key in what is no answer", [f"you sent {KEY}"], INVALID),
    sends("an echoed key in what is no JSON", f"<p>you sent {KEY}</p>", INVALID),
    sends("a key echoed at the end of the quote", " " * 190 + f"<p>you sent {KEY}", INVALID),
    sends("another content type", TEXT, HELLO),
]  # fmt: skip

WRONG: list[Any] = [None, True, 5, -1.5, "x", [], [1], {}, {"a": 1}]
FIELDS = ["id", "object", "created", "model", "choices", "usage", "system_fingerprint"]
TYPES = [
    sends(f"{name} is {json.dumps(value)}", {**CHAT, name: value}, INVALID if name == "choices" else Gives())
    for name in FIELDS
    for value in WRONG
    if not (name == "object" and value == "error")
]
INNER = [
    sends(
        f"choice: {name} is {json.dumps(value)}",
        choice(**{name: value}),
        INVALID if name == "message" and not isinstance(value, dict) else Gives(),
    )
    for name in ("index", "finish_reason", "message", "logprobs")
    for value in WRONG
] + [
    sends(f"message: {name} is {json.dumps(value)}", choice(message={**ONE["message"], name: value}), Gives())
    for name in ("role", "content", "tool_calls", "refusal", "audio", "annotations")
    for value in WRONG
]
MISSING = [
    sends(
        f"without {name}",
        {key: value for key, value in CHAT.items() if key != name},
        INVALID if name == "choices" else HELLO,
    )
    for name in CHAT
] + [
    sends("without anything", {}, INVALID),
    sends("with unknown fields", {**CHAT, "x": {"y": [1]}, "_meta": 1, "to_dict": 2, "text": 3, "__class__": 4}, HELLO),
]
OTHERS = [
    sends("models: data is null", {"object": "list", "data": None}, Gives([]), call="models"),
    sends("models: data is missing", {"object": "list"}, Gives([]), call="models"),
    sends("models: a list in the page's place", [{"id": "m"}], Gives(["m"]), call="models"),
    sends("models: an empty list in the page's place", [], Gives([]), call="models"),
    sends("models: under their own name", {"models": [{"name": "m", "model": "m:latest"}]}, Gives(["m:latest"]),
          call="models"),
    sends("models: names alone", {"data": ["m"]}, Gives(["m"]), call="models"),
    sends("models: an error with a null list", {"code": 500, "msg": "out of luck", "data": None}, ERROR, call="models"),
    sends("models: nothing", {}, INVALID, call="models"),
    sends("models: null", "null", INVALID, call="models"),
    sends("models: one", {"object": "list", "data": [{"id": "m"}]}, Gives(["m"]), call="models"),
    sends("embeddings: none", {"object": "list", "data": [], "model": "m"}, Fails(EmptyAnswerError),
          call="embedding"),
    sends("embeddings: floats where base64 was asked for",
          {"object": "list", "data": [{"embedding": [0.5, 1.0], "index": 0, "object": "embedding"}], "model": "m"},
          Gives([2]), call="embedding"),
    sends("embeddings: text that is no base64",
          {"object": "list", "data": [{"embedding": "???", "index": 0, "object": "embedding"}], "model": "m"},
          INVALID, call="embedding"),
    sends("embeddings: an error", {"error": {"message": "out of luck"}}, ERROR, call="embedding"),
    sends("deleted", {"id": "f", "object": "file", "deleted": True}, Gives(True), call="delete"),
    sends("deleted, empty", b"", Gives(True), call="delete"),
    sends("deleted, an empty object", {}, Gives(True), call="delete"),
    sends("deleted, null", "null", Gives(True), call="delete"),
    sends("deleted, an error", {"code": 500, "msg": "out of luck"}, ERROR, call="delete"),
    sends("responses: a text as output", {"id": "r", "object": "response", "output": "x"}, Gives(), call="responses"),
    sends("responses: null", "null", INVALID, call="responses"),
]  # fmt: skip


def test_all_names_differ() -> None:
    """Each scenario is reported under a name of its own."""
    for table in (BODIES, TYPES, INNER, MISSING, OTHERS):
        assert len({scenario.name for scenario in table}) == len(table)


test_bodies = as_test(BODIES)
test_wrong_types = as_test([*TYPES, *INNER])
test_missing_and_unknown = as_test(MISSING)
test_other_answers = as_test(OTHERS)
