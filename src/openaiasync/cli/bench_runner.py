"""Runs `openaiasync bench`: options → workload and stages, progress, Ctrl-C, the printed report, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import json
import platform
import shutil
import sys
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
from rich.text import Text

from ..lazy import resolve_annotations
from ..loadtest.load_report import LoadReport, html_page, stage_lines, sweep_table
from ..loadtest.load_requests import (
    Workload,
    endpoint_named,
    fixed_prompt,
    rows_of_file,
    synthetic_prompts,
    with_random_limit,
)
from ..loadtest.results import RequestRecord, StageRecorder, StageResult, parse_goals
from ..loadtest.runner import Load, LoadTest
from ..storage.atomic import AtomicFile
from ..version import __version__
from .arguments import choose_model
from .console import CommandError, Exit, err, json_bytes, note, out, printable, write_bytes
from .interrupts import handle_interrupts

if TYPE_CHECKING:
    from ..client import Client
    from .arguments import ServerOptions
    from .bench_command import BenchRequests, LoadOptions

__all__ = ["run_bench"]

_SECONDS = 30.0  # measured, unless something else is said
_TOKENS = "128"  # of an answer
_PROMPT = "200"  # tokens of a synthetic prompt


class Reports(msgspec.Struct, kw_only=True):
    """What is written beside the text, and the percentiles of the table as the user wrote them."""

    as_json: bool
    page: str | None
    requests: str | None
    percentiles: str


def run_bench(
    url: str | None,
    model: str | None,
    goals: tuple[str, ...],
    load: LoadOptions,
    requests: BenchRequests,
    server: ServerOptions,
    reports: Reports,
    loop: str,
) -> int:
    """Run the stages, print their figures and return the exit code. Raises `CommandError` and `OpenAIError`."""
    loads = loads_of(load)
    workload, described = _workload(requests, load.seed)
    percentiles = _percentiles(reports.percentiles)
    try:
        targets = parse_goals(goals)
    except ValueError as error:
        raise CommandError(f"--goal: {error}") from None
    if url is not None:
        server = replace(server, base_url=url)
    more_files()
    for one in loads:
        one.check()
    file = None if reports.page is None else _page_file(reports.page)
    lines = None if reports.requests is None else _RequestsFile(reports.requests)
    # The loop's own objects live as long as the process; looking for cycles among them would be pauses in the figures.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    factory, versions = loop_factory(loop)
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            bench = _Bench(workload, described, loads, versions, reports.as_json)
            options = {"goals": targets, "percentiles": percentiles, "on_request": lines.write if lines else None}
            report = runner.run(bench.run(server, model, options))
        if file is not None:
            file.write(html_page(report).encode())
            file.commit()
            file = None
            note(f"Plots: {reports.page}")
    finally:
        if lines is not None:
            lines.close()
        if file is not None:
            file.discard()
    if reports.as_json:
        write_bytes(json_bytes(msgspec.to_builtins(report)))
    return _exit_code(report.stages)


def _exit_code(stages: list[StageResult]) -> Exit:
    if any(stage.interrupted for stage in stages):
        return Exit.INTERRUPTED
    if not any(stage.ok for stage in stages):
        return Exit.FAILED
    return Exit.ROWS_FAILED if any(stage.failed or stage.unfinished for stage in stages) else Exit.OK


class _Bench:
    """A load test under way."""

    def __init__(
        self, workload: Workload, described: str, loads: list[Load], versions: dict[str, str], as_json: bool
    ) -> None:
        self._workload, self._loads, self._as_json = workload, loads, as_json
        self._report = LoadReport(url="", model="", started="", workload=described, versions=versions)
        self._number = 0

    async def run(self, server: ServerOptions, model: str | None, options: Mapping[str, Any]) -> LoadReport:
        report = self._report
        async with server.client(http_max_in_flight=None, max_retries=0) as client:
            report.url = str(client.base_url).rstrip("/")
            report.model = await self._model(client, model)
            async with LoadTest(client, self._workload, **options) as test:

                def interrupted() -> None:
                    note("Stopped; these are the figures until now. Ctrl-C again ends the command.")
                    test.stop()

                with _progress() as show:
                    show("one request first")
                    await test.check()
                report.started = datetime.now(UTC).isoformat(timespec="seconds")
                with handle_interrupts(interrupted, once=True), _progress() as show:
                    for load in self._loads:
                        if test.stopped:
                            break
                        result = await test.run(load, partial(_show_load, show, load))
                        report.stages.append(result)
                        if not self._as_json:
                            self._print(result)
        width = _width()
        if len(report.stages) > 1 and not self._as_json:
            out().print()
            for line in sweep_table(report.stages, width):
                out().print(Text(line), soft_wrap=True)
        return report

    async def _model(self, client: Client, model: str | None) -> str:
        """Return the model, and make it the default of the requests, unless rows of a file name theirs."""
        workload = self._workload
        if model is None and workload.names_model:
            return "by row"
        chosen = await choose_model(client, model, "embedding" if workload.embeds else "chat")
        workload.defaults["model"] = chosen
        return chosen

    def _print(self, result: StageResult) -> None:
        if self._report.stages[0] is not result:
            out().print()
        for line in stage_lines(result, _width()):
            style = {"client": "bold red", "strained": "yellow", "server": "green"}
            verdict = result.verdict.level if result.verdict is not None else "server"
            out().print(
                Text(printable(line), style=style[verdict] if line.startswith("VERDICT") else ""), soft_wrap=True
            )


def _width() -> int:
    return max(30, out().width if sys.stdout.isatty() else shutil.get_terminal_size((100, 24)).columns)


# -------------------------------------------------------------------------------------------------- options


def loads_of(options: LoadOptions) -> list[Load]:
    """Return the stages that the options describe. Raises `CommandError`."""
    if options.concurrency is not None and options.rate is not None:
        raise CommandError("--concurrency is a closed loop and --rate an open one: give one of them (with --rate, "
                           "--max-in-flight limits the requests under way)")  # fmt: skip
    if options.max_in_flight is not None and options.rate is None:
        raise CommandError("--max-in-flight is for --rate; with --concurrency that number is the limit")
    duration = options.duration
    if duration is None and options.requests is None:
        duration = _SECONDS
    common: dict[str, Any] = {
        "ramp": options.ramp, "warmup": options.warmup, "drain": options.drain, "duration": duration,
        "requests": options.requests, "seed": options.seed,
    }  # fmt: skip
    if options.rate is not None:
        rates = _numbers("--rate", options.rate, float)
        limit = options.max_in_flight
        return [Load(rate=rate, arrivals=options.arrivals, max_in_flight=limit, **common) for rate in rates]
    return [Load(concurrency=int(n), **common) for n in _numbers("--concurrency", options.concurrency or "8", int)]


def _numbers(name: str, text: str, kind: Callable[[str], float]) -> list[float]:
    try:
        values = [kind(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or not all(0 < value < float("inf") for value in values):
        raise CommandError(f"{name} must be a number above 0, or several separated by commas, not {text!r}")
    return values


def _workload(options: BenchRequests, seed: int) -> tuple[Workload, str]:
    """Return what is sent, and its description. Raises `CommandError`, `InputFileError`."""
    given = {"--prompt": options.prompt, "--input": options.input, "--input-tokens": options.input_tokens}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise CommandError(f"{named[0]} and {named[1]} both say what to send: give one of them")
    endpoint = endpoint_named(options.endpoint)
    if options.prefix_tokens and (options.prompt is not None or options.input is not None):
        raise CommandError("--prefix-tokens is for random prompts, not for --prompt and --input")
    defaults: dict[str, Any] = {"ignore_eos": True} if options.ignore_eos else {}
    defaults |= _parameters(options.option)
    if options.input is not None:
        try:
            fields = rows_of_file(options.input)
        except OSError as error:
            raise CommandError(f"cannot read {options.input}: {error.strerror}") from None
        described = f"the rows of {options.input}"
    elif options.prompt is not None:
        fields = fixed_prompt(endpoint, options.prompt)
        described = "one prompt"
    else:
        least, most = _range("--input-tokens", options.input_tokens or _PROMPT)
        fields = synthetic_prompts(endpoint, (least, most), seed, prefix=options.prefix_tokens)
        described = f"prompts of about {_shown(least, most)} tokens"
        if options.prefix_tokens:
            described += f" after {options.prefix_tokens} that are the same in all"
    if options.endpoint != "embedding" and (options.input is None or options.max_tokens is not None):
        limit = "max_output_tokens" if options.endpoint == "response" else "max_tokens"
        least, most = _range("--max-tokens", options.max_tokens or _TOKENS)
        if limit not in defaults:
            fields = with_random_limit(fields, limit, (least, most), seed)
            described += f", answers of at most {_shown(least, most)} tokens"
    return Workload(endpoint, fields, stream=options.stream, defaults=defaults), described


def _shown(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def _range(name: str, text: str) -> tuple[int, int]:
    least, _, most = text.partition("-")
    try:
        low, high = int(least), int(most or least)
    except ValueError:
        low = high = 0
    if not 0 < low <= high <= 10_000_000:
        raise CommandError(f"{name} must be a number, or a range such as 100-500, not {text!r}")
    return low, high


def _parameters(pairs: tuple[tuple[str, str], ...]) -> Mapping[str, Any]:
    """Return parameters as JSON values; what is not JSON is a string."""
    found: dict[str, Any] = {}
    for name, text in pairs:
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _percentiles(text: str) -> list[float]:
    try:
        found = [float(part.strip().removeprefix("p")) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 <= percent <= 100 for percent in found):
        raise CommandError(f"--percentiles must be numbers from 0 to 100 separated by commas, not {text!r}")
    return list(dict.fromkeys(found))


class _RequestsFile:
    """The file of `--save-requests`. A disk that is full ends the file, and not the test."""

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._file: BinaryIO | None = open(path, "wb", buffering=1 << 20)  # noqa: SIM115  (closed by `close`)
        except OSError as error:
            raise CommandError(f"cannot write {path}: {error.strerror or error}") from None

    def write(self, record: RequestRecord) -> None:
        """Append a request as one line of JSON."""
        self._safely(lambda file: file.write(msgspec.json.encode(record) + b"\n"))

    def close(self) -> None:
        """Write what is buffered and close the file."""
        self._safely(lambda file: file.close())
        self._file = None

    def _safely(self, act: Callable[[BinaryIO], object]) -> None:
        if self._file is None:
            return
        try:
            act(self._file)
        except OSError as error:
            file, self._file = self._file, None
            note(f"{self._path} is not complete: {error.strerror or error}")
            with contextlib.suppress(OSError):
                file.close()


def _page_file(path: str) -> AtomicFile:
    """Open the page before the test: a folder that cannot be written to is no surprise at its end."""
    try:
        return AtomicFile.open(path)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror or error}") from None


# -------------------------------------------------------------------------------------------------- the process


def loop_factory(name: str) -> tuple[Callable[[], asyncio.AbstractEventLoop] | None, dict[str, str]]:
    """Return what makes the event loop, and the versions of what takes part. Raises `CommandError`."""
    versions = {"openaiasync": __version__, "Python": platform.python_version(), "msgspec": msgspec.__version__}
    if name == "asyncio" or (name == "auto" and importlib.util.find_spec("uvloop") is None):
        return None, versions
    try:
        found: Any = importlib.import_module("uvloop")
    except ImportError:
        raise CommandError("--loop uvloop needs it: pip install uvloop") from None
    return found.new_event_loop, {**versions, "uvloop": str(found.__version__)}


def more_files() -> None:
    """Raise the limit on open files as far as the user may: a connection is one."""
    try:
        import resource
    except ImportError:  # Windows
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _show_load(show: Callable[[str], None], load: Load, recorder: StageRecorder, under_way: int) -> None:
    show(f"{load}: {recorder.ok:,} answers, {recorder.failed:,} failed, {under_way:,} in flight")


@contextlib.contextmanager
def _progress() -> Generator[Callable[[str], None]]:
    """Yield a function that shows a line on a terminal, updated in place; elsewhere it shows nothing."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.live import Live

    with Live(Text(""), console=err(), auto_refresh=False, transient=True) as live:
        yield lambda text: live.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)


resolve_annotations(__name__)
