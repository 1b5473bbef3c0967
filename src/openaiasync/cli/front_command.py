"""`openaiasync serve --upstream URL`: one front for several servers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter
from cyclopts.validators import Number

from ..core.policy.limits import Limits
from .console import CommandError, Exit, note

if TYPE_CHECKING:
    from ..server.front import Front, FrontUpstream

__all__ = ["NO_FRONT", "FrontOptions", "front_of"]

_LOOPBACK = ("127.", "::1", "localhost")
_OPENAI = "https://api.openai.com/"
_Repeated = Parameter(negative="", show_default=False)


@Parameter(name="*", group=Group("Front for other servers", sort_key=20))
@dataclass(frozen=True, kw_only=True)
class FrontOptions:
    """The options of `serve` with ``--upstream``."""

    upstream: Annotated[
        tuple[str, ...],
        _Repeated,
        Parameter(help="Base URL of a server to pass requests on to; may be repeated."),
    ] = ()
    upstream_key: Annotated[
        tuple[str, ...],
        _Repeated,
        Parameter(
            help="The key for each --upstream, in the same order: env:VARIABLE, file:PATH, or none. "
            "Default: OPENAI_API_KEY for OpenAI's API, none for others."
        ),
    ] = ()
    key: Annotated[
        tuple[str, ...],
        _Repeated,
        Parameter(
            help="A key that clients may use, as NAME=env:VARIABLE or NAME=file:PATH, perhaps with ,rpm=N and ,tpm=N; "
            "may be repeated. Default: no key is required."
        ),
    ] = ()
    keys: Annotated[str | None, Parameter(help="A file with such keys, one per line.")] = None
    max_in_flight: Annotated[
        int | None, Parameter(validator=Number(gte=1), help="Requests in flight to all upstreams together.")
    ] = None
    rpm: Annotated[float | None, Parameter(validator=Number(gt=0), help="Requests per minute to all upstreams.")] = None
    tpm: Annotated[float | None, Parameter(validator=Number(gt=0), help="Tokens per minute of all upstreams.")] = None
    queue: Annotated[
        int, Parameter(validator=Number(gte=0), help="Requests that may wait for a slot; more get status 429.")
    ] = 100
    queue_timeout: Annotated[
        float, Parameter(validator=Number(gt=0), help="Seconds that a request waits for a slot, then status 429.")
    ] = 30.0
    timeout: Annotated[
        float, Parameter(validator=Number(gt=0), help="Seconds until an upstream responds, then status 504.")
    ] = 600.0
    cache: Annotated[
        str | None,
        Parameter(help="A file of cached answers to repeated requests with temperature 0, shared with jobs."),
    ] = None
    record: Annotated[
        str | None, Parameter(help="Record all requests and answers in this file, which is replaced.")
    ] = None
    replay: Annotated[
        str | None, Parameter(help="Answer from a recorded file; nothing is sent, and --upstream is not needed.")
    ] = None

    @property
    def given(self) -> bool:
        """Whether any option of a front was given."""
        return self != NO_FRONT


NO_FRONT = FrontOptions()


def front_of(options: FrontOptions, host: str) -> Front:
    """Return the front that the options describe.

    Raises `CommandError` for options that do not fit together, `ConfigurationError` for invalid values.
    """
    from ..server.front import Front
    from ..server.front.accounts import parse_key, read_keys

    if not options.upstream and options.replay is None:
        raise CommandError("these options need --upstream URL", Exit.USAGE)
    keys = [parse_key(text) for text in options.key]
    if options.keys is not None:
        keys += read_keys(options.keys)
    if not host.startswith(_LOOPBACK) and not keys:
        note(f"Anyone who can reach {host} can use this server; require keys with --key.")
    return Front(
        _upstreams(options.upstream, options.upstream_key),
        keys=keys,
        limits=Limits(options.max_in_flight, options.rpm, options.tpm),
        max_queue=options.queue,
        queue_timeout=options.queue_timeout,
        timeout=options.timeout,
        cache=options.cache,
        record=options.record,
        replay=options.replay,
    )


def _upstreams(urls: Sequence[str], sources: Sequence[str]) -> list[FrontUpstream]:
    from ..server.front import FrontUpstream
    from ..server.front.accounts import read_secret

    if sources and len(sources) != len(urls):
        message = f"{len(sources)} --upstream-key for {len(urls)} --upstream: give one for each, or the word none"
        raise CommandError(message, Exit.USAGE)
    made: list[FrontUpstream] = []
    for number, url in enumerate(urls):
        if sources:
            key = None if sources[number] == "none" else read_secret(sources[number], f"--upstream-key {number + 1}")
        else:
            key = os.environ.get("OPENAI_API_KEY") if url.startswith(_OPENAI) else None
        made.append(FrontUpstream(url, key or None))
    return made
