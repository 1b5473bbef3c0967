"""`openaiasync bench`: its options. The code that runs it is imported when it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number

from .arguments import ANYWHERE, ServerOptions

__all__ = ["BenchRequests", "LoadOptions", "add_bench_command"]

_Flag = Annotated[bool, Parameter(negative="", show_default=False)]
_Seconds = Annotated[float, Parameter(validator=Number(gte=0))]


@Parameter(name="*", group=Group("Load", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How requests follow each other."""

    concurrency: Annotated[
        str | None,
        Parameter(
            name=("--concurrency", "-c"),
            help="A closed loop: this many workers, each of which sends its next request when its answer is there. "
            "Several numbers, as in 1,4,16, are measured one after the other. Default: 8.",
        ),
    ] = None
    rate: Annotated[
        str | None,
        Parameter(
            name=("--rate", "-r"),
            help="An open loop: requests per second, sent on a schedule whether or not the server keeps up. "
            "Several numbers are measured one after the other.",
        ),
    ] = None
    arrivals: Annotated[
        Literal["poisson", "constant"], Parameter(help="How the requests of --rate are spaced: at random, or evenly.")
    ] = "poisson"
    max_in_flight: Annotated[
        int | None,
        Parameter(
            validator=Number(gte=1),
            help="With --rate, most requests under way; others wait, and their latency counts from their schedule.",
        ),
    ] = None
    duration: Annotated[
        float | None,
        Parameter(
            name=("--duration", "-d"),
            validator=Number(gt=0),
            help="Seconds to measure. Default: 30, without --requests.",
        ),
    ] = None
    requests: Annotated[
        int | None,
        Parameter(name=("--requests", "-n"), validator=Number(gte=1), help="Number of requests to measure."),
    ] = None
    ramp: Annotated[_Seconds, Parameter(help="Seconds at the start over which the load grows; not measured.")] = 0.0
    warmup: Annotated[_Seconds, Parameter(help="Seconds at full load that are not measured.")] = 2.0
    drain: Annotated[_Seconds, Parameter(help="Seconds that requests under way get at the end.")] = 30.0
    seed: Annotated[int, Parameter(help="Seed of random arrivals and prompts.")] = 0


@Parameter(name="*", group=Group("Requests", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class BenchRequests:
    """What is sent."""

    prompt: Annotated[str | None, Parameter(help="Send this prompt every time. A server may cache it.")] = None
    input: Annotated[
        str | None,
        Parameter(
            name=("--input", "-i"),
            help='Send the rows of this file, again from its start: {"url": …, "body": {…}} as for `run`.',
        ),
    ] = None
    input_tokens: Annotated[
        str | None,
        Parameter(help="Send random prompts of about this many tokens, or of a range such as 100-500. Default: 200."),
    ] = None
    prefix_tokens: Annotated[
        int,
        Parameter(
            validator=Number(gte=0),
            help="Begin all random prompts with this many tokens more, the same in each, for a server that caches "
            "prefixes.",
        ),
    ] = 0
    max_tokens: Annotated[
        str | None,
        Parameter(
            help="Longest answer, in tokens, or a range such as 50-200 from which each request draws its limit. "
            "Default: 128 for prompts."
        ),
    ] = None
    ignore_eos: Annotated[
        bool,
        Parameter(
            negative="",
            show_default=False,
            help="Have each answer go on to its --max-tokens, where the server knows ignore_eos (vLLM, SGLang and "
            "others).",
        ),
    ] = False
    endpoint: Annotated[
        Literal["chat", "completion", "response", "embedding"], Parameter(help="The operation that gets the prompts.")
    ] = "chat"
    stream: Annotated[bool, Parameter(help="Stream the answers. Without streams, only whole answers are timed.")] = True
    option: Annotated[
        tuple[tuple[str, str], ...],
        Parameter(
            name=("--option", "-o"),
            negative="",
            json_list=False,
            show_default=False,
            help="A parameter of the requests, as NAME VALUE, such as -o temperature 0 or -o ignore_eos true; "
            "may be repeated.",
        ),
    ] = ()


_LOAD, _REQUESTS = LoadOptions(), BenchRequests()


def bench(
    url: str | None = None,
    /,
    *,
    model: Annotated[str | None, Parameter(name=("--model", "-m"))] = None,
    goal: Annotated[tuple[str, ...], Parameter(name=("--goal", "-g"), negative="", show_default=False)] = (),
    percentiles: str = "50,90,95,99",
    json: _Flag = False,
    html: str | None = None,
    save_requests: str | None = None,
    loop: Literal["auto", "uvloop", "asyncio"] = "auto",
    load: LoadOptions = _LOAD,
    requests: BenchRequests = _REQUESTS,
    server: ServerOptions = ANYWHERE,
) -> int:
    """Put load on a server, and measure latency, time between tokens, and throughput.

    Latencies count from the instant at which a request was due, so that a stalled server is not left out of the
    figures. A verdict says whether this client, and not the server, was the bottleneck.

    One request is sent first; if it fails, nothing else is sent. Ctrl-C ends the test and prints what was measured.
    Exit code 1 if no request succeeded, 3 if some failed.

    Parameters
    ----------
    url:
        URL of the API, such as http://localhost:8000/v1. Default: --base-url, OPENAI_BASE_URL, or OpenAI's API.
    model:
        The model. Default: the first suitable one that the server lists.
    goal:
        A target, such as ttft=500ms, itl=50ms, gap=1s or latency=10s: the goodput counts requests that meet all of
        them. May be repeated.
    percentiles:
        The percentiles of the table, from 0 to 100, such as 50,75,99.9.
    json:
        Print everything that was measured as one JSON object.
    html:
        Write this page of HTML, with plots.
    save_requests:
        Write one line of JSON for each request to this file, with its times, its tokens and its error.
    loop:
        The event loop: uvloop, where it is installed, measures more precisely under load.
    """
    from .bench_runner import Reports, run_bench

    reports = Reports(as_json=json, page=html, requests=save_requests, percentiles=percentiles)
    return run_bench(url, model, goal, load, requests, server, reports, loop)


def add_bench_command(app: App) -> None:
    """Register the command."""
    app.command(bench)
