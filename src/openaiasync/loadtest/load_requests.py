"""What a load test sends: one prompt again and again, the rows of a file, or synthetic prompts of a given length."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ..bulk.batch_file import InputFileError, LineProblem, as_object, endpoint_at, parse_line, read_lines
from ..core.codec.endpoint import Endpoint, Request
from ..engine.engine import Engine
from ..errors import ConfigurationError

__all__ = ["Workload", "endpoint_named", "fixed_prompt", "rows_of_file", "synthetic_prompts", "with_random_limit"]

_PROMPTS = ("chat", "completion", "response", "embedding")
# Common English words: nearly all vocabularies have each of them, with the blank before it, as one token.
_VOCABULARY = (
    "time year people way day man thing woman life child world school state family student group country "
    "problem hand part place case week company system program question work government number night point home "
    "water room mother area money story fact month lot right study book eye job word business issue side kind "
    "head house service friend father power hour game line end member law car city community name president "
    "team minute idea kid body information back parent face others level office door health person art war "
    "history party result change morning reason research girl guy moment air teacher force education light blue "
    "green small large old new good high long great little own early young important few public bad same able "
    "open late hard real best clear free strong true whole "
)
_WORDS = _VOCABULARY.split()


class Workload:
    """The requests of a load test; `request(number)` may be called in any order."""

    def __init__(
        self,
        endpoint: Endpoint,
        fields: Callable[[int], Mapping[str, Any]],
        *,
        stream: bool = True,
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        """`fields` returns the fields of the n-th request's body; `defaults` are added where it lacks them.

        With `stream`, every operation that can stream does.
        """
        self._endpoint = endpoint
        self._fields = fields
        self._stream = stream
        self.defaults: dict[str, Any] = dict(defaults or {})

    @property
    def names_model(self) -> bool:
        """Whether requests name their model, judged by the first one."""
        return "model" in self.defaults or "model" in self._fields(0)

    @property
    def embeds(self) -> bool:
        """Whether requests are for embeddings, judged by the first one."""
        endpoint: Endpoint = self._fields(0).get("endpoint", self._endpoint)
        return endpoint.group == "embedding"

    def request(self, engine: Engine, number: int) -> Request:
        """Return the n-th request, which is never retried.

        Raises `OpenAIError`, and `TypeError` for fields that cannot be sent.
        """
        fields = {**self.defaults, **self._fields(number)}
        endpoint: Endpoint = fields.pop("endpoint", self._endpoint)
        streamed = self._stream and bool(endpoint.event)
        for name in ("stream", "stream_options"):
            fields.pop(name, None)
        # Fields that only some servers know are passed on unchanged.
        extra = {name: fields.pop(name) for name in tuple(fields) if name not in endpoint.known}
        params = {**fields, "extra_body": extra} if extra else fields
        if not streamed:
            request = engine.request(endpoint, params)
        elif endpoint.group in ("chat", "completion"):
            request = engine.stream_request(endpoint, params)
        else:
            request = engine.request(endpoint, params, True)
        request.max_retries = 0
        return request


def fixed_prompt(endpoint: Endpoint, prompt: str) -> Callable[[int], dict[str, Any]]:
    """Return a function that returns the fields of each request, all with this prompt."""
    fields = _prompt_fields(endpoint, prompt)
    return lambda number: fields


def synthetic_prompts(
    endpoint: Endpoint, tokens: tuple[int, int], seed: int = 0, *, prefix: int = 0
) -> Callable[[int], dict[str, Any]]:
    """Return a function that returns the fields of each request: a prompt of random words.

    A prompt is about as many tokens long as `tokens` (least, most) says: most vocabularies have each word as a token.

    Prompts differ from their first word, so that a cache of prefixes does not help, unless all of them begin with the
    same `prefix` tokens. Equal seeds give equal prompts.
    """
    least, most = tokens
    common = random.Random(f"prefix {seed}").choices(_WORDS, k=prefix)

    def fields(number: int) -> dict[str, Any]:
        draw = _drawing(seed, number)
        return _prompt_fields(endpoint, " ".join([*common, *draw.choices(_WORDS, k=draw.randint(least, most))]))

    return fields


def with_random_limit(
    fields: Callable[[int], dict[str, Any]], name: str, tokens: tuple[int, int], seed: int = 0
) -> Callable[[int], dict[str, Any]]:
    """Add a random limit on the tokens of its answer, from `tokens` (least, most), to each request.

    `name` is the field of the limit; requests that have it keep theirs. Equal seeds give equal limits.
    """

    def limited(number: int) -> dict[str, Any]:
        return {name: _drawing(seed, -1 - number).randint(*tokens), **fields(number)}

    return limited


def _drawing(seed: int, number: int) -> random.Random:
    """Return the generator of random numbers for one request."""
    return random.Random(seed * 1_000_003 + number)


def rows_of_file(path: str) -> Callable[[int], dict[str, Any]]:
    """Return a function that returns the rows of a file in the Batch format, and after the last the first. Blocks.

    The ``url`` of a row names its operation (default: chat). Raises `OSError`, and `InputFileError` for lines that are
    not requests.
    """
    rows: list[dict[str, Any]] = []
    problems: list[LineProblem] = []
    for number, line in read_lines(path):
        try:
            parsed, _ = parse_line(line)
            endpoint = endpoint_at(parsed.url or "/v1/chat/completions")
            if endpoint is None:
                problems.append(LineProblem(number, f"the url {parsed.url!r} is not an operation that can be measured"))
                continue
            rows.append({**as_object(msgspec.json.decode(parsed.body)), "endpoint": endpoint})
        except msgspec.DecodeError as error:
            problems.append(LineProblem(number, f"not a request: {error}"))
    if not rows and not problems:
        problems.append(LineProblem(0, "the file has no rows"))
    if problems:
        raise InputFileError(path, problems)
    return lambda number: rows[number % len(rows)]


def endpoint_named(name: str) -> Endpoint:
    """Return the endpoint for prompts of this kind: ``chat``, ``completion``, ``response`` or ``embedding``."""
    from .. import endpoints

    found = {
        "chat": endpoints.CHAT_COMPLETIONS_CREATE,
        "completion": endpoints.COMPLETIONS_CREATE,
        "response": endpoints.RESPONSES_CREATE,
        "embedding": endpoints.EMBEDDINGS_CREATE,
    }
    if name not in found:
        raise ConfigurationError(f"{name!r} is not one of {', '.join(_PROMPTS)}")
    return found[name]


def _prompt_fields(endpoint: Endpoint, prompt: str) -> dict[str, Any]:
    if "messages" in endpoint.known:
        messages: Sequence[dict[str, str]] = [{"role": "user", "content": prompt}]
        return {"messages": messages}
    return {"prompt" if "prompt" in endpoint.known and endpoint.path == "/completions" else "input": prompt}
