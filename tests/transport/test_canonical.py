"""What makes two requests the same, and what must not be stored of them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from cputime import assert_linear
from openaiasync.transport.base import Credentials, Origin
from openaiasync.transport.canonical import Matching, StoredRequest, below_base, diff_lines, store_request
from openaiasync.transport.scrubber import Scrubber

KEY = "sk-a-key-of-this-test-0123456789"
NOBODY = Scrubber()


def stored(
    body: Any, content_type: str = "application/json", query: str = "", scrubber: Scrubber = NOBODY
) -> StoredRequest:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return store_request("POST", "/chat/completions", query, content_type, raw, scrubber)


def form(boundary: str, *parts: tuple[str, str | None, bytes]) -> tuple[bytes, str]:
    lines = b""
    for name, file_name, content in parts:
        named = "" if file_name is None else f'; filename="{file_name}"\r\nContent-Type: audio/x'
        lines += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + content + b"\r\n"
        )
    return lines + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def same(one: StoredRequest, two: StoredRequest, **rules: Any) -> bool:
    matching = Matching(**rules)
    return matching.key(one) == matching.key(two)


def test_json_is_compared_by_value() -> None:
    """Order of keys, white space, and ways to write a number do not count; values, types and lists' order do."""
    one = stored(b'{"model": "m", "n": 1, "temperature": 0, "messages": [{"role": "user", "content": "x"}]}')
    two = stored(b'{"messages":[{"content":"x","role":"user"}],"temperature":0.0,"n":1.0,"model":"m"}')
    assert same(one, two)
    for changed in (
        {"model": "m", "n": 2},
        {"model": "m", "n": "1"},
        {"model": "m", "n": True},
        {"model": "m"},
        {"model": "m", "n": 1, "seed": 0},
    ):
        assert not same(stored({"model": "m", "n": 1}), stored(changed))
    assert not same(stored({"stop": ["a", "b"]}), stored({"stop": ["b", "a"]}))
    assert not same(stored({"input": [1, None]}), stored({"input": [1]}))


def test_defaults_that_are_spelt_out() -> None:
    """A null at the top and ``stream: false`` are what leaving them out is; streaming is another request."""
    assert same(stored({"model": "m"}), stored({"model": "m", "stop": None, "stream": False}))
    assert not same(stored({"model": "m"}), stored({"model": "m", "stream": True}))


def test_ignored_fields() -> None:
    """The volatile ones by default; others by name or path, through lists; of queries and forms as well."""
    one = {"model": "m", "user": "a", "metadata": {"run": 1}, "stream_options": {"include_usage": True}}
    assert same(stored(one), stored({"model": "m", "user": "b"}))
    assert not same(stored(one), stored({"model": "m", "user": "b"}), ignore=["metadata", "stream_options"])
    tools = [{"function": {"name": "add", "id": 1}}, {"function": {"name": "sub", "id": 2}}]
    other = [{"function": {"name": "add", "id": 3}}, {"function": {"name": "sub"}}]
    assert same(stored({"tools": tools}), stored({"tools": other}), ignore=["tools.function.id"])
    assert not same(stored({"tools": tools}), stored({"tools": other}), ignore=["tools.id"])
    assert same(stored({}, query="a=1&t=2"), stored({}, query="t=3&a=1"), ignore=["t"])
    (one_form, two_form) = (stored(*form("b", ("seed", None, b"1"))), stored(*form("b", ("seed", None, b"2"))))
    assert same(one_form, two_form, ignore=["seed"])
    assert not same(one_form, two_form)
    with pytest.raises(TypeError, match="a list of names"):
        Matching("user")


def test_a_function_normalizes_bodies() -> None:
    """What it returns is compared; the stored request stays whole."""

    def without_dates(body: Any) -> Any:
        return {**body, "prompt": body["prompt"].partition(" on ")[0]}

    one, two = stored({"prompt": "news on Monday"}), stored({"prompt": "news on Tuesday"})
    assert same(one, two, normalize=without_dates)
    assert one.body == {"json": {"prompt": "news on Monday"}}


def test_forms_are_compared_by_fields_and_contents() -> None:
    """Boundary, order of different fields, file names and types do not count; contents and items of lists do."""
    one = stored(*form("aaa", ("model", None, b"m"), ("file", "a.wav", b"RIFF\r\n--aa\x00\xff")))
    two = stored(*form("b=b", ("file", "tmp8.wav", b"RIFF\r\n--aa\x00\xff"), ("model", None, b"m")))
    assert same(one, two)
    assert one.body is not None
    assert [part["name"] for part in one.body["form"]] == ["model", "file"]
    assert one.body["form"][1]["size"] == 12
    assert not same(one, stored(*form("b", ("model", None, b"m"), ("file", "a.wav", b"RIFF2"))))
    lists = [("include[]", None, b"x"), ("include[]", None, b"y")]
    assert same(stored(*form("a", *lists)), stored(*form("b", *lists)))
    assert not same(stored(*form("a", *lists)), stored(*form("a", *lists[::-1])))


def test_large_base64_is_stored_as_its_hash() -> None:
    """Images and sounds in messages do not fill the file; other images are other requests; long words stay."""
    image = "data:image/png;base64," + "iVBORw0KGgo+" * 500
    one = stored({"url": image})
    assert len(json.dumps(one.body)) < 200
    assert same(one, stored({"url": image}))
    assert not same(one, stored({"url": image + "AAAA"}))
    text = "word " * 2000
    assert stored({"content": text}).body == {"json": {"content": text}}


def test_other_bodies() -> None:
    """Text stays text, bytes are their hash, JSON need not be labelled, what is broken is text."""
    assert stored(b"plain", "text/plain").body == {"text": "plain"}
    assert set(stored(b"\xff\xfe", "x/y").body or ()) == {"sha256", "size"}
    assert set(stored(b"x" * 100_000, "text/plain").body or ()) == {"sha256", "size"}
    assert stored(b' {"a": 1}', "application/x-www-form-urlencoded").body == {"json": {"a": 1}}
    assert stored(b'{"a": ').body == {"text": '{"a": '}
    assert stored(b"not a form", "multipart/form-data; boundary=b").body == {"text": "not a form"}
    assert stored(b"").body is None


def test_paths_below_the_base() -> None:
    """Of the base URL that fits; of any server's /v1 without one; another server keeps its name."""
    here, there = Origin("https", "api.example.com", 443), Origin("http", "localhost", 8000)
    bases = ["https://api.example.com/v1", "http://localhost:8000/gateway/openai/"]
    assert below_base(here, "/v1/models?limit=5", bases) == ("/models", "limit=5")
    assert below_base(there, "/gateway/openai/models", bases) == ("/models", "")
    assert below_base(there, "/v1/models", bases) == ("http://localhost:8000/v1/models", "")
    assert below_base(here, "/v1/models", []) == ("/models", "")
    assert below_base(here, "/v1beta/models", []) == ("/v1beta/models", "")


def test_keys_are_removed_from_requests() -> None:
    """The request's own, those of known services, and what stands under the name of a secret."""
    scrubber = Scrubber(Credentials([("Authorization", f"Bearer {KEY}")]), texts=["tell-nobody"])
    body = {
        "messages": [{"content": f"{KEY}, hf_{'a1' * 10}, tell-nobody, https://me:pass@host/, basic understanding"}],
        "tools": [{"type": "mcp", "authorization": "abc", "headers": {"X-Key": "def"}}],
        "arguments": '{"api_key": "ghi", "n": 1}',
    }
    text = json.dumps(stored(body, query=f"api-key=jkl&api-version=1&x={KEY}", scrubber=scrubber).query)
    assert text == '[["api-key", "[redacted]"], ["api-version", "1"], ["x", "[key]"]]'
    clean = stored(body, scrubber=scrubber).body
    assert clean == {
        "json": {
            "messages": [{"content": "[key], [redacted], [key], https://host/, basic understanding"}],
            "tools": [{"type": "mcp", "authorization": "[redacted]", "headers": {"X-Key": "[redacted]"}}],
            "arguments": '{"api_key": "[redacted]", "n": 1}',
        }
    }


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ('{"client_secret": "a\\"b", "n": 1}', '{"client_secret": "[redacted]", "n": 1}'),
        ('{"x": "{\\"password\\": \\"abc\\", \\"n\\": 1}"}', '{"x": "{\\"password\\": \\"[redacted]\\", \\"n\\": 1}"}'),
        ("in organization org-0123456789abcdefABCD on tokens", "in organization [redacted] on tokens"),
        ("Authorization: Bearer abcdefghij0123456789==", "Authorization: Bearer [redacted]"),
        ("a bearer of good news, task-based, sk-learn", "a bearer of good news, task-based, sk-learn"),
        ('{"token": "the", "logprob": -1}', '{"token": "the", "logprob": -1}'),
    ],
)
def test_texts_without_secrets(raw: str, clean: str) -> None:
    """JSON in JSON, messages about organisations, schemes; ordinary words and fields stay."""
    assert NOBODY.text(raw) == clean


def test_placeholders_are_words() -> None:
    """A key that is no key ("EMPTY", "test") is not cut out of ordinary texts."""
    scrubber = Scrubber(Credentials([("Authorization", "Bearer EMPTY")]))
    assert scrubber.text("the list is EMPTY") == "the list is EMPTY"


def test_fields_of_answers() -> None:
    """Kept as they are, except framing, cookies, keys, and the names of accounts."""
    raw = (
        b"Content-Type: text/plain\r\nContent-Length: 3\r\nSet-Cookie: a=b\r\nOpenAI-Organization: acme\r\n"
        b"X-Project-Id: p\r\nX-RateLimit-Remaining-Tokens: 5\r\nX-Api-Key: k\r\nRetry-After: 7\r\nX-Request-Id: r\r\n"
    )
    assert NOBODY.fields(raw) == [
        ("content-type", "text/plain"),
        ("x-ratelimit-remaining-tokens", "5"),
        ("retry-after", "7"),
        ("x-request-id", "r"),
    ]


@pytest.mark.parametrize("part", ["\\", '\\"api_key\\"', "https://", "bearer ", "sk-", '"api_key":"', "a"])
def test_scrubbing_is_linear(part: str) -> None:
    """No text is searched again and again, whatever it is made of."""
    assert_linear(lambda size: NOBODY.text(part * (size // len(part))), 50_000)


def test_differences_are_short() -> None:
    """Long texts and many lines are cut; equal parts are left out."""
    one = {"messages": [{"content": str(number)} for number in range(500)], "model": "a"}
    lines = diff_lines(one, {**one, "model": "b"})
    assert lines[-3:] == ['-   "model": "a"', '+   "model": "b"', "  }"]
    assert len(lines) < 10
    assert len(diff_lines(list(range(1000)), list(range(1000, 2000)))) == 81
    assert max(map(len, diff_lines("a" * 10_000, "b"))) < 450


@pytest.mark.parametrize(
    "start",
    [
        *(
            f"{name}{dash}"
            for name in ["sk", "rk", "pk", "ek", "sess", "gsk", "xai", "pplx", "r8", "nvapi"]
            for dash in "-_"
        ),
        *("hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "AIzaAAAAAAAAAA", "org-", "proj_", "eyJ0eXAiOiJK.eyJzdWIi"),
    ],
)
def test_tokens_of_known_services(start: str) -> None:
    """Each kind is removed from a text, alone and within one."""
    token = start + "Abc123" * 4 + (".sig" if start.startswith("eyJ") else "")
    assert NOBODY.text(f"it is {token}, says it") == "it is [redacted], says it"


@pytest.mark.parametrize("around", ["", "u", "us", "user:", "longer name: "])
def test_encoded_keys_are_removed(around: str) -> None:
    """A key is found in base64 at any place of the encoded text, in both alphabets, and in hexadecimal digits."""
    key = "sk-??>>~~-of-this-test-0123456789"
    scrubber = Scrubber(Credentials([("Authorization", f"Bearer {key}")]))
    raw = f"{around}{key}{around}".encode()
    for text in (base64.b64encode(raw), base64.urlsafe_b64encode(raw), raw.hex().encode()):
        clean = scrubber.text(f"I heard {text.decode()}!")
        assert "[key]" in clean
        left = clean.removeprefix("I heard ").removesuffix("!").split("[key]")
        assert sum(map(len, left)) <= 2 * (2 * len(around) + 4)  # the neighbours and a character at each end
    assert scrubber.text("an ordinary text of words") == "an ordinary text of words"
