"""Runs jobs for the command line: clients for the servers, Ctrl-C, a progress line, a summary, exit codes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import os
import sys
import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

import msgspec
from rich.text import Text

from ..bulk.batch_file import check_file
from ..bulk.fingerprint import JobError, answers_path, paths_of
from ..bulk.job import Job
from ..bulk.job_limits import JobLimits, LimitsFile
from ..bulk.object_storage import is_url
from ..bulk.progress import JobProgress, price_for
from ..bulk.shards import shard_path
from ..bulk.tables import TableOptions, export_results, is_table
from ..core.policy.limits import Limits
from ..installation import install_command
from ..lazy import resolve_annotations
from .arguments import key_for
from .console import CommandError, Exit, err, note, out
from .interrupts import handle_interrupts
from .job_status import exit_code, local_answers, note_report, record_of
from .shard_commands import failed_shards, merge_job, shard_folders, shard_option, whole_output
from .spool import spooled

if TYPE_CHECKING:
    from ..client import Client
    from ..ray.shard_driver import RayJob
    from .job_commands import JobServers, ShardArguments, TableArguments

__all__ = ["check_input", "export_job", "retry_job", "run_job", "set_limits", "table_options"]

_PLAIN = 10.0  # seconds between two lines without a terminal


def table_options(source: str, given: TableArguments) -> TableOptions | None:
    """Return how rows of a table become requests; `None` for a file of requests. Raises `CommandError`."""
    if not is_table(source):
        named = {"--prompt": given.prompt, "--system": given.system, "--key": given.key}
        if used := [name for name, value in named.items() if value is not None]:
            raise CommandError(f"{used[0]} is for tables (.csv, .tsv, .parquet); {source} is a file of requests")
        return None
    if given.prompt is None:
        if not is_url(source) and not os.path.exists(source):
            raise CommandError(f"cannot read {source}: {os.strerror(errno.ENOENT)}")
        raise CommandError(f"{source} is a table: --prompt says what to ask for each row, such as 'Classify: {{text}}'")
    return TableOptions(given.prompt, given.system, given.key, given.url)


def run_job(
    servers: JobServers,
    source: str,
    target: str,
    options: dict[str, Any],
    *,
    rpm: float | None,
    tpm: float | None,
    max_in_flight: str | None,
    prices: str | None,
) -> int:
    """Run a job and return the exit code; ``-`` as `source` is stdin. Raises `OpenAIError`, `CommandError`."""
    machines: ShardArguments | None = options.pop("machines", None)
    if machines is not None:
        options["shard"] = shard_option(target, machines)
    on_ray = machines is not None and machines.ray is not None
    if source == "-":
        if options.get("shard") is not None or on_ray:
            raise CommandError(
                "stdin cannot be cut into shards: write the requests to a file that all of them can read"
            )
        with spooled(target, new=bool(options.get("new"))) as source:
            return run_job(
                servers, source, target, options, rpm=rpm, tpm=tpm, max_in_flight=max_in_flight, prices=prices
            )
    if not is_url(source) and not os.path.isfile(source):
        raise CommandError(f"cannot read {source}: {'not a file' if os.path.exists(source) else 'no such file'}")
    if options.get("max_cost") is not None and prices is None:
        _need_prices()
    options["prices"] = _prices_in(prices)
    limits = JobLimits(rpm=rpm, tpm=tpm, max_in_flight=_in_flight(max_in_flight))
    options["note"] = {
        "base_url": [_without_secrets(url) for url in servers.base_url],
        "limits": msgspec.to_builtins(limits),
    }
    options |= limits.options()
    shared = servers.shared or os.environ.get("OPENAIASYNC_SHARED")
    if shared:  # not stored with the job, because it may hold a password
        options["limits"] = Limits(rpm=rpm, tpm=tpm, shared=shared)
    if machines is not None and machines.ray is not None:
        return asyncio.run(_run_on_ray(servers, source, target, options, machines, limits))
    return asyncio.run(_run(servers, source, target, options))


async def _run(servers: JobServers, source: str, target: str, options: dict[str, Any]) -> int:
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(_client(servers, url)) for url in servers.base_url or (None,)]
        with progress_line() as show:
            try:
                job = Job(clients, source, target, progress=show, **options)
            except (ValueError, TypeError) as error:
                raise CommandError(str(error)) from None
            with _interrupts(job) as interrupted:
                report = await job
    note_report(report)
    return exit_code(report, interrupted=bool(interrupted))


async def _run_on_ray(
    servers: JobServers,
    source: str,
    target: str,
    options: dict[str, Any],
    machines: ShardArguments,
    limits: JobLimits,
) -> int:
    from ..ray.shard_driver import RayJob
    from ..ray.worker_options import WorkerOptions

    if servers.api_key is not None:
        raise CommandError("--api-key would be visible in the cluster: set OPENAI_API_KEY there, or pass --key-command")
    if options.get("cache") is not None:
        raise CommandError("--cache is a file of SQLite, which several machines cannot use: leave it out with --ray")
    worker = WorkerOptions(
        base_url=list(servers.base_url),
        timeout=servers.timeout,
        key_command=machines.key_command,
        rpm=limits.rpm,
        tpm=limits.tpm,
        shared=servers.shared,
        max_in_flight=limits.max_in_flight,
    )
    for name in ("note", "limits", "max_in_flight", "shard", "cache"):
        options.pop(name, None)
    with progress_line() as show:
        try:
            job = RayJob(
                machines.ray or "", source, target, workers=machines.workers, worker=worker, show=show, **options
            )
        except (ValueError, TypeError) as error:
            raise CommandError(str(error)) from None
        with _interrupts(job) as interrupted:
            report = await job.run()
    note_report(report)
    return exit_code(report, interrupted=bool(interrupted))


def _client(servers: JobServers, url: str | None) -> Client:
    from ..client import Client

    options: dict[str, Any] = {} if servers.timeout is None else {"http_timeout": servers.timeout}
    # The scheduler decides how many rows are in flight.
    return Client(api_base=url, api_key=key_for(url, servers.api_key), http_max_in_flight=None, **options)


def _without_secrets(url: str) -> str:
    """Return the URL without a user and password, because it is stored with the job."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


@contextlib.contextmanager
def _interrupts(job: Job | RayJob) -> Generator[list[bool], None, None]:
    """Let Ctrl-C end the job: once after the rows in flight, twice at once. Yield a list that is not empty then."""
    seen: list[bool] = []

    def stop() -> None:
        if not seen:
            note("Finishing the rows in flight; Ctrl-C again discards them. The same command continues later.")
        job.stop(now=bool(seen))
        seen.append(True)

    with handle_interrupts(stop):
        yield seen


@contextlib.contextmanager
def progress_line() -> Generator[Callable[[JobProgress], None], None, None]:
    """A progress line, updated in place on a terminal; elsewhere a line from time to time, and at the end."""
    if sys.stderr.isatty():
        from rich.live import Live

        with Live(Text(""), console=err(), auto_refresh=False, transient=True) as live:
            yield lambda progress: live.update(Text(str(progress), no_wrap=True, overflow="ellipsis"), refresh=True)
        return
    last = time.monotonic()

    def show(progress: JobProgress) -> None:
        nonlocal last
        if progress.done or time.monotonic() - last >= _PLAIN:
            last = time.monotonic()
            err().print(Text(str(progress)), soft_wrap=True)

    yield show


# -------------------------------------------------------------------------------------------------- options


def _in_flight(text: str | None) -> int | str | None:
    if text is None or text == "auto":
        return text
    if text.isdigit() and int(text) > 0:
        return int(text)
    raise CommandError(f"--max-in-flight must be a whole number above 0 or auto, not {text!r}")


def _prices_in(file: str | None) -> dict[str, Any] | None:
    if file is None:
        return None
    try:
        with open(file, "rb") as opened:
            value = msgspec.json.decode(opened.read(), type=dict[str, tuple[float, float]])
    except OSError as error:
        raise CommandError(f"cannot read the prices {file}: {error.strerror}") from None
    except ValueError as error:
        raise CommandError(f'{file} is not a table of prices such as {{"MODEL": [0.5, 1.5]}}: {error}') from None
    return dict(value)


def _need_prices() -> None:
    import importlib.util

    if importlib.util.find_spec("genai_prices") is None:
        raise CommandError(f"--max-cost needs prices: --prices FILE, or {install_command('prices')}")


# -------------------------------------------------------------------------------------------------- other commands


def retry_job(
    servers: JobServers,
    target: str,
    options: dict[str, Any],
    *,
    rpm: float | None,
    tpm: float | None,
    max_in_flight: str | None,
    prices: str | None,
) -> int:
    """Send the failed rows of a job again; return the exit code. Of shards, those with failed rows are retried in turn,
    and then merged again."""
    if (numbers := failed_shards(target)) is not None:
        for number in numbers:
            one = shard_path(answers_path(os.path.realpath(target)), number)
            more = {**options, "report": None}
            code = retry_job(servers, one, more, rpm=rpm, tpm=tpm, max_in_flight=max_in_flight, prices=prices)
            if code not in (Exit.OK, Exit.ROWS_FAILED):
                return code
        return merge_job(target, False, options.get("report"))
    folder, record = record_of(target)
    noted = record.options
    if not servers.base_url and noted.get("base_url"):
        servers = dataclasses.replace(servers, base_url=tuple(noted["base_url"]))
    known: dict[str, Any] = {**(noted.get("limits") or {}), **(LimitsFile(folder).read() or JobLimits()).changes()}
    options |= {"retry": True, "order": record.order, "model": record.model, "params": record.params}
    options |= {"schema": record.schema, "shard": record.shard}
    if record.table is not None:
        options["table"] = TableOptions(**record.table)
    in_flight = max_in_flight or (None if known.get("max_in_flight") is None else str(known["max_in_flight"]))
    return run_job(
        servers,
        record.source,
        target if record.shard is None else whole_output(target),
        options,
        rpm=rpm or known.get("rpm"),
        tpm=tpm or known.get("tpm"),
        max_in_flight=in_flight,
        prices=prices,
    )


def check_input(source: str, model: str | None, prices: str | None) -> int:
    """Check a file of requests (``-``: stdin) and print a summary; return the exit code."""
    if source == "-":
        with spooled(None) as source:
            return check_input(source, model, prices)
    if is_table(source):
        raise CommandError(f"{source} is a table: `run` checks it before it sends anything")
    table = _prices_in(prices)
    try:
        found = check_file(source)
    except OSError as error:
        raise CommandError(f"cannot read {source}: {error.strerror}") from None
    console, complaints = out(), err()
    for problem in found.problems:
        complaints.print(Text(f"{source}: {problem}"), soft_wrap=True)
    if found.problem_count > len(found.problems):
        note(f"and {found.problem_count - len(found.problems):,} more")
    console.print(f"{found.rows:,} rows, {found.size:,} bytes, about {found.input_tokens:,} tokens of prompts")
    if found.output_limit:
        console.print(f"at most {found.output_limit:,} tokens of answers, {found.unlimited:,} rows without a limit")
    for url, count in found.urls.most_common():
        console.print(Text(f"  {count:,} × {url}"))
    for name, count in found.models.most_common():
        console.print(Text(f"  {count:,} × {name or model or '(no model)'}"))
    names = {name or model or "" for name in found.models}
    if len(names) == 1 and (price := price_for(names.pop(), table)) is not None:
        prompt, answers = found.input_tokens * price[0] / 1e6, found.output_limit * price[1] / 1e6
        console.print(f"about ${prompt:,.2f} for prompts and at most ${answers:,.2f} for answers with a limit")
    return Exit.USAGE if found.problem_count else Exit.OK


def export_job(target: str, table: str, errors: bool) -> int:
    """Write results as a table; return the exit code."""
    place = local_answers(target)
    if not os.path.isfile(place):
        raise CommandError(f"cannot read {place}: no such file")
    if os.path.realpath(table) in (place, paths_of(place)[0]):
        raise CommandError(f"{table} is the output of the job itself: name another file")
    try:
        count = export_results([place, *([paths_of(place)[0]] if errors else [])], table)
    except (msgspec.DecodeError, KeyError) as error:
        raise CommandError(f"{target} is not the output of a job: {error}") from None
    note(f"{count:,} rows in {table}")
    return Exit.OK


def set_limits(target: str, rpm: float | None, tpm: float | None, max_in_flight: str | None) -> int:
    """Change the limits of a job; return the exit code."""
    changes = JobLimits(rpm=rpm, tpm=tpm, max_in_flight=_in_flight(max_in_flight))
    if changes == JobLimits():
        raise CommandError("say what to change: --rpm, --tpm or --max-in-flight")
    folders = shard_folders(target) or [record_of(target)[0]]
    now = changes
    try:
        for folder in folders:
            now = changes.merged_into(folder)
    except OSError as error:
        raise JobError(f"cannot write the limits of {target}: {error}") from error
    note(f"{target}: {now}")
    return Exit.OK


resolve_annotations(__name__)
