"""Text completions over a real socket, in every form the API has."""

from __future__ import annotations

from typing import Any

from conftest import run
from openaiasync.core.codec.decode import decoder_for
from openaiasync.demo import demo_app
from openaiasync.endpoints import ENDPOINTS
from openaiasync.server import serve

from .wire import Answer, Wire

ROW = ENDPOINTS["completions.create"]
WHOLE = decoder_for(ROW.load(ROW.type), strict=True)


def post(**body: Any) -> Answer:
    async def main() -> Answer:
        async with serve(demo_app()) as server, Wire(server) as wire:
            return await wire.call(
                "POST", "/v1/completions", {"model": "demo-complete", "prompt": "The sea is", **body}
            )

    return run(main())


def complete(**body: Any) -> dict[str, Any]:
    answer = post(**body)
    assert answer.status == 200, answer.body
    WHOLE.decode(answer.body)
    return dict(answer.json())


def texts(**body: Any) -> list[str]:
    return [choice["text"] for choice in complete(**body)["choices"]]


def test_whole_answer() -> None:
    """Sixteen tokens by default; the same again."""
    completion = complete()
    assert completion["usage"] == {"prompt_tokens": 3, "completion_tokens": 16, "total_tokens": 19}
    assert completion["choices"][0]["finish_reason"] == "length"
    assert completion["object"] == "text_completion"
    assert texts() == texts() != texts(seed=1)


def test_several() -> None:
    """Prompts and choices: ``n`` for each prompt, in order."""
    completion = complete(prompt=["The sea is", "One winter"], n=2)
    assert [choice["index"] for choice in completion["choices"]] == [0, 1, 2, 3]
    single = texts(n=2)
    assert [choice["text"] for choice in completion["choices"][:2]] == single
    assert single[0] == texts()[0]
    assert completion["usage"]["prompt_tokens"] == 5
    assert len(set(texts(n=8, max_tokens=40))) > 3


def test_limits() -> None:
    """The number of tokens, none at all, and what would be too much."""
    assert complete(max_tokens=3)["usage"]["completion_tokens"] == 3
    assert texts(max_tokens=0) == [""]
    assert complete(max_tokens=100_000)["choices"][0]["finish_reason"] == "stop"
    answer = post(prompt=["x"] * 300, n=100)
    assert (answer.status, answer.error()["param"]) == (400, "n")


def test_stop() -> None:
    """The text ends before it, in the middle of a token if need be."""
    [text] = texts(max_tokens=30)
    cut = text[5:9]
    choice = complete(max_tokens=30, stop=["zzz", cut], logprobs=0)["choices"][0]
    assert choice["text"] == text[: text.index(cut)]
    assert choice["finish_reason"] == "stop"
    assert "".join(choice["logprobs"]["tokens"]) == choice["text"]


def test_echo_and_logprobs() -> None:
    """The prompt comes first; every token has its place in the text."""
    choice = complete(echo=True, logprobs=2, max_tokens=10)["choices"][0]
    assert choice["text"].startswith("The sea is")
    logprobs = choice["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(logprobs["top_logprobs"]) == 13
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        assert choice["text"][offset:].startswith(token)
    assert all(logprob <= 0 for logprob in logprobs["token_logprobs"])
    assert all(len(top) <= 2 for top in logprobs["top_logprobs"])
    assert complete(max_tokens=1)["choices"][0]["logprobs"] is None
    assert texts(echo=True, max_tokens=0) == ["The sea is"]


def test_best_of() -> None:
    """The likeliest of several tries."""

    def mean(choice: dict[str, Any]) -> float:
        logprobs = choice["logprobs"]["token_logprobs"]
        return sum(logprobs) / len(logprobs)

    tries = complete(n=8, logprobs=0)["choices"]
    [best] = complete(best_of=8, logprobs=0)["choices"]
    assert mean(best) == max(mean(choice) for choice in tries)


def test_token_ids() -> None:
    """A list of ids is one prompt, a list of lists several."""
    assert len(texts(prompt=[1, 2, 3])) == 1
    assert texts(prompt=[[1, 2, 3], [4]])[0] == texts(prompt=[1, 2, 3])[0]


def test_stream_adds_up() -> None:
    """Token by token, choices interleaved, usage in a chunk of its own when asked for."""
    body = {"n": 2, "max_tokens": 12, "logprobs": 1, "echo": True}
    whole = complete(**body)
    chunks = post(stream=True, stream_options={"include_usage": True}, **body).events()
    for index, choice in enumerate(whole["choices"]):
        parts = [part for chunk in chunks for part in chunk["choices"] if part["index"] == index]
        assert "".join(part["text"] for part in parts) == choice["text"]
        assert [part["finish_reason"] for part in parts[:-1]] == [None] * (len(parts) - 1)
        assert parts[-1]["finish_reason"] == choice["finish_reason"]
        assert [token for part in parts for token in part["logprobs"]["tokens"]] == choice["logprobs"]["tokens"]
        assert [at for part in parts for at in part["logprobs"]["text_offset"]] == choice["logprobs"]["text_offset"]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], whole["usage"])
    assert all("usage" not in chunk for chunk in post(stream=True).events())
