"""Classifies errors by the text of their messages. No other module does.

Statuses, codes and types are checked first: OpenAI's code for a prompt that is too long is ``context_length_exceeded``.
Most other servers report it only in the message, each in different words. Every entry names its servers and source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, cast

from ...errors import APIError
from .error_body import read_error

__all__ = [
    "CONTEXT_OVERFLOWS",
    "ContextOverflow",
    "Dialect",
    "context_overflow",
    "exceeds_limit",
    "failed_generation",
    "lacks_model",
    "names_parameter",
    "refuses_default",
    "refuses_format",
    "tells_limit",
]


class ContextOverflow(NamedTuple):
    """A request that does not fit the model's context: the server's numbers, `None` if it gives none."""

    limit: int | None
    """Tokens that the context holds."""
    prompt: int | None
    """Tokens that the server counted in the prompt."""
    answer: int | None = None
    """Tokens reserved for the answer, by the request or by the server."""


class Dialect(NamedTuple):
    """One wording for a prompt that is too long."""

    servers: str
    pattern: re.Pattern[str]
    """Its groups are the numbers: ``limit``, ``prompt``, ``answer``, and ``total``, prompt and answer together."""
    source: str


def _dialect(servers: str, pattern: str, source: str) -> Dialect:
    """Return an entry; in `pattern` ``<name>`` stands for a number, a blank for any white space."""
    numbered = re.sub(r"<(\w+)>", r"(?P<\1>[0-9][0-9,]*)", pattern)
    return Dialect(servers, re.compile(numbered.replace(" ", r"\s+"), re.IGNORECASE), source)


# Patterns skip apostrophes, which some servers escape or typeset. Entries with numbers come first.
CONTEXT_OVERFLOWS: tuple[Dialect, ...] = (
    _dialect(
        "OpenAI, Azure, text-generation-webui",
        r"maximum context length is <limit> tokens\. However, your messages resulted in (?:over )?<prompt> tokens",
        "api.openai.com; text-generation-webui, modules/api/completions.py",
    ),
    _dialect(
        "vLLM since 0.11",
        r"maximum context length is <limit> tokens\. However, you requested <answer> output tokens and your prompt "
        r"contains (?:at least )?<prompt> (?:input tokens|characters)",
        "vllm/renderers/params.py",
    ),
    _dialect(
        "OpenAI, Azure, DeepSeek, OpenRouter, vLLM before 0.10, llama-cpp-python",
        r"maximum context length is <limit> tokens[.,] however,? you requested (?:about )?<total> tokens",
        "api.openai.com; openrouter.ai; vllm/entrypoints/openai/serving_engine.py; llama_cpp/server/errors.py",
    ),
    _dialect(
        "vLLM 0.10",
        r"maximum context length is <limit> tokens\. However, your request has <prompt> input tokens",
        "vllm/entrypoints/openai/serving_engine.py",
    ),
    _dialect(
        "vLLM 0.8 to 0.10",
        r"is too large: <answer>\. This model.{1,8} maximum context length is <limit> tokens and your request has "
        r"<prompt> input tokens",
        "vllm/entrypoints/openai/serving_engine.py",
    ),
    _dialect(
        "vLLM since 0.12",
        r"You passed <prompt> input tokens and requested <answer> output tokens\. However, the model.{1,8} context "
        r"length is only <limit> tokens",
        "vllm/renderers/params.py",
    ),
    _dialect("vLLM since 0.12", r"context length is only <limit> tokens", "vllm/renderers/params.py"),
    _dialect(
        "vLLM",
        r"prompt \(length <prompt>\) is longer than the maximum model length of <limit>",
        "vllm/v1/engine/processor.py",
    ),
    _dialect(
        "vLLM before 0.9",
        r"prompt \(total length <prompt>\) is too long to fit into the model \(context length <limit>\)",
        "vllm/engine/llm_engine.py",
    ),
    _dialect(
        "SGLang, Cloudflare Workers AI, Together",
        r"exceeds the model.{1,8} maximum context length of <limit> tokens(?:\. You requested a total of <total> "
        r"tokens: <prompt> tokens from the input messages)?",
        "sglang/srt/managers/tokenizer_manager.py",
    ),
    _dialect(
        "SGLang, Together",
        r"input \(<prompt> tokens\) is longer than the model.{1,8} context length \(<limit> tokens\)",
        "sglang/srt/managers/tokenizer_manager.py",
    ),
    _dialect(
        "gateways before SGLang",
        r"Input length \(?<prompt>\)? exceeds (?:the )?model(?:.{1,8} maximum)? context length \(?<limit>",
        "reports of their users",
    ),
    _dialect(
        "llama.cpp",
        r"request \(<prompt> tokens\) exceeds the available context size \(<limit> tokens\)",
        "llama.cpp, tools/server/server-context.cpp",
    ),
    _dialect("llama.cpp", r"exceeds the available context size", "llama.cpp, tools/server/server.cpp"),
    _dialect("llama.cpp, LM Studio, in mid-stream", r"context size has been exceeded", "llama.cpp, tools/server"),
    _dialect(
        "servers over llama.cpp",
        r"prompt has <prompt> tokens?, but the configured context size is <limit>",
        "reports of their users",
    ),
    _dialect(
        "llama-cpp-python",
        r"Requested tokens \(<total>\) exceed context window of <limit>",
        "llama_cpp/llama.py",
    ),
    _dialect(
        "LM Studio",
        r"Trying to keep the first <prompt> tokens when context (?:the )?overflows\. However, the model is loaded with "
        r"context length of only <limit> tokens",
        "LM Studio 0.3, reports of its users",
    ),
    _dialect(
        "LM Studio",
        r"tokens to keep from the initial prompt is greater than the context length"
        r"(?: \(n_keep: <prompt>\s*>=\s*n_ctx: <limit>\))?",
        "LM Studio 0.3 and 0.4, reports of its users",
    ),
    _dialect("Ollama", r"input length exceeds (?:the |maximum )?context length", "ollama, server/routes.go"),
    _dialect("Ollama", r"prompt too long; exceeded (?:max )?context length", "ollama.com, reports of its users"),
    _dialect("Ollama", r"prompt is longer than the context length", "ollama, reports of its users"),
    _dialect(
        "Mistral",
        r"Prompt contains <prompt> tokens(?: and [0-9]+ draft tokens)?, too large for model with <limit> maximum "
        r"context length",
        "api.mistral.ai",
    ),
    _dialect(
        "Text Generation Inference, Together, Hugging Face",
        r"`inputs` tokens \+ `max_new_tokens` must be <= <limit>(?:\. Given: <prompt> `inputs` tokens)?",
        "text-generation-inference, router/src/validation.rs",
    ),
    _dialect(
        "Text Generation Inference, Hugging Face",
        r"`inputs` must have less than <limit> tokens\. Given: <prompt>",
        "text-generation-inference, router/src/validation.rs",
    ),
    _dialect(
        "Cerebras",
        r"reduce the length of the messages or completion\. Current length is <prompt> while limit is <limit>",
        "api.cerebras.ai",
    ),
    _dialect("Groq", r"reduce the length of the messages or completion", "api.groq.com"),
    _dialect(
        "xAI",
        r"maximum prompt length is <limit> but the request contains <prompt> tokens",
        "api.x.ai",
    ),
    _dialect("Anthropic, Vertex AI", r"prompt is too long: <prompt> tokens > <limit> maximum", "api.anthropic.com"),
    _dialect(
        "Anthropic, Bedrock",
        r"input length and `?max_tokens`? exceed context limit: <prompt> \+ <answer> > <limit>",
        "api.anthropic.com",
    ),
    _dialect("Fireworks", r"prompt is too long: <prompt>, model maximum context length: <limit>", "api.fireworks.ai"),
    _dialect("Anthropic, gateways", r"(?:prompt|input) is too long\b", "api.anthropic.com; bedrock-runtime"),
    _dialect(
        "Gemini, Vertex AI",
        r"input token count(?: \(<prompt>\))? exceeds the maximum number of tokens allowed \(?<limit>",
        "generativelanguage.googleapis.com",
    ),
    _dialect(
        "Bedrock",
        r"Too many input tokens\. Max input tokens: <limit>, request input token count: <prompt>",
        "bedrock-runtime, reports of its users",
    ),
    _dialect(
        "Cohere",
        r"too many tokens: total number of tokens in the prompt cannot exceed <limit>(?: - received <prompt>)?",
        "docs.cohere.com, errors",
    ),
    _dialect("Cohere", r"too many tokens: size limit exceeded by", "api.cohere.com, reports of its users"),
    _dialect(
        "Moonshot",
        r"exceeded model token limit: <limit>(?: \(requested: <total>\))?",
        "api.moonshot.ai",
    ),
    _dialect("DashScope", r"Range of input length should be \[1,\s*<limit>\]", "dashscope.aliyuncs.com, error codes"),
    _dialect("MiniMax", r"context window exceeds limit", "api.minimax.io"),
    _dialect(
        "servers over MLX",
        r"Prompt too long: <prompt> tokens exceeds max context window of <limit> tokens",
        "reports of their users",
    ),
    _dialect("Zhipu, Z.ai", r"prompt (?:exceeds max length|too long\b)", "open.bigmodel.cn, error 1261"),
    _dialect(
        "Azure, OpenAI",
        r"Input tokens exceed the configured limit of <limit> tokens\. Your messages resulted in <prompt> tokens",
        "Azure OpenAI, reports of its users",
    ),
    _dialect("OpenAI Responses", r"exceeds the context window", "api.openai.com"),
    _dialect(
        "Cloudflare Workers AI",
        r"input and maximum output tokens \(<total>\) exceeded this model context window limit \(<limit>\)",
        "developers.cloudflare.com, errors 5021 and 3010",
    ),
    _dialect(
        "GitHub Copilot",
        r"prompt token count of <prompt> exceeds the limit of <limit>",
        "api.githubcopilot.com, reports of its users",
    ),
    _dialect("GitHub Models", r"Request body too large for \S+ model\. Max size: <limit> tokens", "models.github.ai"),
    _dialect("TabbyAPI", r"Prompt length <prompt> is greater than max_seq_len <limit>", "tabbyAPI, backends/exllamav2"),
    _dialect(
        "LM Studio",
        r"Reached context length of <limit> tokens",
        "LM Studio 0.3, reports of its users",
    ),
    _dialect(
        "SiliconFlow",
        r"length of prompt_tokens \(<prompt>\) must be less than max_seq_len \(<limit>\)",
        "api.siliconflow.cn, error 20015",
    ),
    _dialect(
        "Vertex AI",
        r"input token count is <prompt> but (?:the )?model only supports up to <limit>",
        "aiplatform.googleapis.com",
    ),
    _dialect(
        "watsonx",
        r"number of input tokens <prompt> cannot exceed the total tokens limit <limit>",
        "ml.cloud.ibm.com, reports of its users",
    ),
    _dialect(
        "Databricks",
        r"prompt token count \(?<prompt>\)? cannot exceed <limit>",
        "serving endpoints, reports of their users",
    ),
    _dialect(
        "DeepInfra, Triton, Databricks, Volcengine",
        r"(?:prompt|input)(?: token)? length \(?<prompt>\)? exceeds (?:the )?(?:maximum|max)(?: allowed)?"
        r"(?: input| token| context)? (?:length|size) \(?<limit>",
        "reports of their users",
    ),
    _dialect(
        "Triton",
        r"sum of prompt length \(<prompt>(?:\.0)?\)(?: and|,) query length \([0-9.]+\) should not exceed "
        r"max_num_tokens \(<limit>\)",
        "TensorRT-LLM, reports of its users",
    ),
    _dialect("Volcengine", r"Total tokens of image and text exceed max message tokens", "ark.cn-beijing.volces.com"),
    _dialect("mistral.rs", r"Prompt sequence length is greater than <limit>", "reports of its users"),
    _dialect("Snowflake", r"max tokens of <limit> exceeded", "Cortex, reports of its users"),
    _dialect("Zhipu, in Chinese", r"Prompt 超长", "open.bigmodel.cn, error 1261"),
    _dialect("LiteLLM", r"ContextWindowExceededError", "litellm/exceptions.py"),
    _dialect("gateways, which cut what follows", r"maximum context length(?: (?:is|of) <limit> tokens)?", "vLLM"),
    _dialect("gateways", r"context[ _]length[ _]exceeded", "reports of their users"),
    _dialect(
        "gateways",
        r"(?:prompt|input|messages?|conversation)\b[^.:;]{0,40}? (?:exceeds?|(?:is|are) (?:too long|"
        r"longer than|larger than|greater than))[^.:;]{0,40}? (?:context|the model\b)(?![^.;]{0,40} output)",
        "reports of their users",
    ),
)

# The part of a `total` that is meant for the answer.
_ANSWER = re.compile(
    r"(?<![0-9,])([0-9][0-9,]*+) (?:(?:tokens )?(?:in|for) the (?:completion|output)|`max_new_tokens`)"
    r"|requested ([0-9][0-9,]*) output",
    re.IGNORECASE,
)
_OVERFLOW_CODES = frozenset(
    {
        "context_length_exceeded",  # OpenAI, Azure, Groq
        "exceed_context_size_error",  # llama.cpp
        "model_max_prompt_tokens_exceeded",  # GitHub Copilot
        "tokens_limit_reached",  # GitHub Models
        "model_context_window_exceeded",  # Z.ai
        "1261",  # Zhipu
        "ContextWindowExceededError",  # LiteLLM
    }
)
# Errors about the caller or the rate: their messages may mention tokens and limits, too.
_OTHER_STATUSES = frozenset({401, 402, 403, 429})
_PACE = re.compile(r"per (?:minute|min|second|day)|rate.?limit|quota|throttl|wait before", re.IGNORECASE)


def context_overflow(error: Exception) -> ContextOverflow | None:
    """Return the numbers of an error that says that the prompt is too long; `None` for any other error."""
    if not isinstance(error, APIError) or getattr(error, "status_code", None) in _OTHER_STATUSES:
        return None
    codes = {str(one) for one in (error.code, error.type) if one is not None}
    known = bool(codes & _OVERFLOW_CODES)
    numbers = _fields(error)
    limit, prompt = _count(numbers.get("n_ctx")), _count(numbers.get("n_prompt_tokens"))  # llama.cpp
    for text in _texts(error):
        if _PACE.search(text) and not known:
            continue
        for dialect in CONTEXT_OVERFLOWS:
            found = dialect.pattern.search(text)
            if found is not None:
                named = _numbers(found, text)
                return named._replace(limit=limit or named.limit, prompt=prompt or named.prompt)
    return ContextOverflow(limit, prompt) if known else None


def _fields(error: APIError) -> Mapping[str, Any]:
    body: Any = error.body
    return cast("Mapping[str, Any]", body) if isinstance(body, Mapping) else {}


def _numbers(found: re.Match[str], text: str) -> ContextOverflow:
    groups = found.groupdict()
    limit, prompt, answer, total = (_count(groups.get(name)) for name in ("limit", "prompt", "answer", "total"))
    if "characters" in found[0]:  # vLLM counts characters where it does not tokenize
        prompt = None
    if answer is None and (named := _ANSWER.search(text, found.start())):
        answer = _count(named[1] or named[2])
    if prompt is None and total is not None:
        prompt = max(1, total - (answer or 0))
    return ContextOverflow(limit, prompt, answer)


def _count(value: Any) -> int | None:
    if isinstance(value, str):
        value = int(value.replace(",", "")) if len(value) < 16 else 0
    return value if type(value) is int and value > 0 else None


# An error may echo a long request: searching 64 KB for every wording would block the event loop for a second.
_SEARCHED = 4_000  # characters that are searched, of all texts of an error together
_MOST_TEXTS = 100


def _texts(error: APIError) -> list[str]:
    """Return the server's texts: its message, and every string in the body, which gateways nest (OpenRouter's `raw`).

    Each text once, without repeated white space, and only the beginning of long ones.
    """
    texts = [error.message, _words_of(error), *islice(_strings(error.body, 6), _MOST_TEXTS)]
    raw = getattr(getattr(error, "response", None), "text", None)
    if isinstance(raw, str):
        texts.append(raw)
    found: list[str] = []
    left = _SEARCHED
    for text in texts:
        shown = " ".join(text[:left].split())
        if shown and not any(shown in known for known in found):
            found.append(shown)
            left -= len(shown)
    return found


def _words_of(error: APIError) -> str:
    return read_error(error.body).message[:_SEARCHED]


def _strings(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, (Mapping, list)):
        inner: Any = cast("Any", value)
        for one in inner.values() if isinstance(value, Mapping) else inner:
            yield from _strings(one, depth - 1)


# ------------------------------------------------------------------------------- parameters that a server refuses

_UNFIT = frozenset({400, 422, 501})
# Errors that no change of the request would prevent, whatever the status.
_OTHER_CODES = frozenset(
    {
        "context_length_exceeded",
        "content_filter",
        "content_policy_violation",
        "model_not_found",
        "json_validate_failed",  # Groq: the fault of the model
        "tool_use_failed",
    }
)
_SQUEEZED = re.compile(r"[^a-z0-9]+")

FORMAT_WORDS = ("response_format", "json_schema", "json_object", "grammar", "guided_json", "structured_outputs")
"""Servers' names for the response format: llama-cpp-python ``('body', 'response_format', 'type')``, vLLM
``guided_json``, llama.cpp ``grammar``."""

DEFAULT_WORDS: dict[str, tuple[str, ...]] = {
    # LiteLLM: "Setting {'encoding_format': 'base64'} is not supported by ollama".
    "encoding_format": ("encoding_format", "base64"),
    # Azure before 2024-09: "Unrecognized request argument supplied: stream_options".
    "stream_options": ("stream_options", "include_usage"),
}
"""Servers' names for the parameters that this library adds to a request."""


def names_parameter(error: APIError, words: Sequence[str]) -> bool:
    """Whether an error names a parameter, in its fields or its message, in any spelling or quoting."""
    names = [_squeezed(word) for word in words]
    fields = [_squeezed(str(one)) for one in (error.param, error.code, error.type) if one]
    if any(name in text for text in fields for name in names):
        return True
    places = list(_places(error.body))
    if places:  # the rest of such an error may echo the request
        return any(name in _squeezed(place) for place in places for name in names)
    # If the server names another parameter, the message has to contain the exact name.
    looked_for = names[:1] if error.param else names
    return any(name in _squeezed(text) for text in _texts(error) for name in looked_for)


def _squeezed(text: str) -> str:
    return _SQUEEZED.sub("", text.lower())


# Words about the form of a request; they decide even if the message mentions other subjects.
_FORM = re.compile(
    r"\b(?:unknown|unrecogni[sz]ed|unexpected|extra|additional|validation|schema|parameters?|params?|arguments?|fields?|"
    r"property|properties|options?|formats?|floats?|payload|bad request|invalid (?:request|json|body|input|value)s?)\b",
    re.IGNORECASE,
)
# Words that may be about it, unless the message mentions another subject: "the API key is not valid".
_WEAK_FORM = re.compile(
    r"support|implement|\bvalid|invalid|allowed|permitted|\bjson\b|structured|guided", re.IGNORECASE
)
_OTHER_SUBJECT = re.compile(
    r"\bkeys?\b|token|account|organi[sz]ation|location|region|countr|\bmodel name|\bmodel [`'\"]|image|audio|\bfile|"
    r"\brole|conversation|messages?\b|content|credit|billing|budget|quota|sensitive|polic|overload|billed|plan\b",
    re.IGNORECASE,
)
_SAYS_NOTHING = re.compile(
    r"\W*(?:(?:an? )?(?:provider|upstream|server|internal|backend|unknown|request|client)?(?: server)? ?(?:returned )?"
    r"(?:an? )?(?:error|failed|failure)|no)?\W*",
    re.IGNORECASE,
)


def _may_be_about_form(error: APIError) -> bool:
    """Whether an error that names no parameter may be about the form of the request.

    A 422 and a 501 are, by definition; a 400 is if its message is about the form, or if it has no message.
    """
    words = _words_of(error)
    if getattr(error, "status_code", 0) != 400 or not words or _FORM.search(words):
        return True
    return _WEAK_FORM.search(words) is not None and _OTHER_SUBJECT.search(words) is None


def _says_nothing(error: APIError) -> bool:
    """Return whether the message consists only of "error" and similar words."""
    return _SAYS_NOTHING.fullmatch(_words_of(error)) is not None


def refuses_default(error: APIError, name: str, *, certainly: bool = False) -> bool:
    """Whether an error is about a parameter that this library added.

    Unless `certainly`, an error that names no parameter counts, too, if it may be about the form of the request. Any
    other error would only be repeated without the parameter.
    """
    if getattr(error, "status_code", None) in _OTHER_STATUSES:
        return False
    if names_parameter(error, DEFAULT_WORDS[name]):
        return True
    if certainly or not _names_nothing(error) or names_parameter(error, FORMAT_WORDS):
        return False
    return _may_be_about_form(error)


def refuses_format(error: APIError) -> bool:
    """Return whether an error is, or may be, about the requested response format, since it names nothing else."""
    if getattr(error, "status_code", None) in _OTHER_STATUSES or {str(error.code), str(error.type)} & _OTHER_CODES:
        return False
    if names_parameter(error, FORMAT_WORDS):
        return True
    return _names_nothing(error) and (_may_be_about_form(error) or _says_nothing(error))


def _names_nothing(error: APIError) -> bool:
    """Whether an error about the request does not say which parameter it is about."""
    if getattr(error, "status_code", None) not in _UNFIT or {str(error.code), str(error.type)} & _OTHER_CODES:
        return False
    return not error.param and not any(_places(error.body)) and context_overflow(error) is None


def _places(body: object) -> Iterator[str]:
    """Yield the fields in a 422 of FastAPI, which has no error object, with their messages."""
    detail = cast("dict[str, Any]", body).get("detail") if isinstance(body, dict) else None
    items: list[Any] = cast("Any", detail) if isinstance(detail, list) else []
    for one in items:
        fields = cast("dict[str, Any]", one) if isinstance(one, dict) else {}
        if isinstance(fields.get("loc"), list):
            yield f"{'.'.join(map(str, fields['loc']))}: {fields.get('msg')}"


def failed_generation(error: Exception) -> str | None:
    """Return the model's text that a server withholds because it is not the requested JSON; `None` for other errors.

    Groq's ``json_validate_failed``: a mistake of the model, which says nothing about what the server supports.
    """
    if not isinstance(error, APIError) or error.code != "json_validate_failed":
        return None
    text = _fields(error).get("failed_generation")
    return text if isinstance(text, str) else ""


# ------------------------------------------------------------------------------------------------- limits on rates

# A request that is larger than a whole minute's limit: no pause helps. OpenAI and Groq: "Request too large for gpt-4o
# in organization org-… on tokens per min (TPM): Limit 30000, Requested 57007." (429 and 413); LiteLLM repeats it.
_TOO_LARGE = re.compile(r"(?>.*?request (?:is )?too large\b).*?(?:tokens per|TPM|limit)", re.IGNORECASE | re.DOTALL)
# Which limit a 429 is about. OpenAI, Azure and Groq name it in words: "on tokens per min (TPM)", "on requests per min
# (RPM)"; Azure "exceeded token rate limit"; TogetherAI, Mistral and Fireworks limit calls in flight: "too many
# concurrent requests", "concurrency limit"; LiteLLM "max parallel request limit reached".
_LIMITS = (
    ("slots", re.compile(r"concurren(?:t|cy)|(?:parallel|simultaneous) request", re.IGNORECASE)),
    ("tokens", re.compile(r"tokens? (?:per|rate limit)|\bTP[MD]\b", re.IGNORECASE)),
    ("requests", re.compile(r"requests? (?:per|rate limit)|\bRP[MDS]\b", re.IGNORECASE)),
)


def exceeds_limit(error: APIError) -> bool:
    """Return whether a refused request exceeds the whole limit, so that waiting does not help."""
    return getattr(error, "status_code", None) in (413, 429) and any(map(_TOO_LARGE.match, _texts(error)))


def tells_limit(error: APIError) -> str:
    """Return the limit that a 429 is about: ``"requests"``, ``"tokens"``, ``"slots"``, or ``""`` if it names none."""
    for name, pattern in _LIMITS:
        if any(map(pattern.search, _texts(error))):
            return name
    return ""


# -------------------------------------------------------------------------------------------------- unknown models

# A server that does not have a model. OpenAI: "The model `gpt-9` does not exist or you do not have access to it."
# (code ``model_not_found``); vLLM and SGLang: "The model `x` does not exist."; Ollama: "model 'x' not found"; LocalAI
# and LM Studio: "model x not found"; Groq and Together as OpenAI, Fireworks "Model not found, inaccessible, and/or not
# deployed".
_UNKNOWN = re.compile(
    r"not found|(?:does not|doesn't) exist|not deployed|(?P<whole>(?:unknown|no such) model)|unknown", re.IGNORECASE
)
_MODEL = re.compile(r"\bmodel\b", re.IGNORECASE)
_NEAR = 205  # characters before those words, within which they are about a model that is named there


def lacks_model(error: APIError) -> bool:
    """Whether a server refused a request because it does not have the model: a 404 that says so."""
    if getattr(error, "status_code", None) != 404:
        return False
    return error.code == "model_not_found" or any(map(_names_unknown_model, _texts(error)))


def _names_unknown_model(text: str) -> bool:
    return any(
        found["whole"] or _MODEL.search(text, max(0, found.start() - _NEAR), found.start())
        for found in _UNKNOWN.finditer(text)
    )
