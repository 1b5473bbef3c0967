"""The commands for jobs: `run`, `check`, `status`, `retry`, `merge`, `export` and `limits set`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter
from cyclopts.validators import Number

from .arguments import Debug, InputFile, schema_in

__all__ = ["ANY_SERVERS", "JobServers", "ShardArguments", "TableArguments", "add_job_commands"]

_Flag = Annotated[bool, Parameter(negative="", show_default=False)]
_Positive = Annotated[float | None, Parameter(validator=Number(gt=0))]
_Out = Annotated[str, Parameter(name=("--out", "-o"))]
_Limits = Group("Limits", sort_key=5)
_Rpm = Annotated[
    float | None,
    Parameter(
        validator=Number(gt=0),
        group=_Limits,
        help="Requests per minute that each server allows. Default: learned from its answers.",
    ),
]
_Tpm = Annotated[
    float | None,
    Parameter(
        validator=Number(gt=0),
        group=_Limits,
        help="Tokens per minute that each server allows. Default: learned from its answers.",
    ),
]
_InFlight = Annotated[
    str | None,
    Parameter(group=_Limits, help='Rows in flight at each server, or "auto" (the default): found by measuring.'),
]


@Parameter(name="*", group=Group("Server", sort_key=10))
@dataclass(frozen=True, kw_only=True)
class JobServers:
    """The options of commands that send to one server or to several."""

    base_url: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            help="URL of the API, such as http://localhost:8000/v1; repeated for several servers that share the rows. "
            "Default: OPENAI_BASE_URL, or OpenAI's API.",
        ),
    ] = ()
    api_key: Annotated[
        str | None,
        Parameter(help="The API key. Prefer setting OPENAI_API_KEY: other users of this machine can read arguments."),
    ] = None
    timeout: Annotated[
        float | None, Parameter(validator=Number(gt=0), help="Seconds until an answer starts. Default: 120.")
    ] = None
    shared: Annotated[
        str | None,
        Parameter(
            group=_Limits,
            help="Share --rpm and --tpm with all processes that name the same budget: redis://HOST/0?name=NAME, or "
            "ray://NAME in a Ray cluster. Prefer OPENAIASYNC_SHARED for a URL with a password.",
        ),
    ] = None
    debug: Debug = False


ANY_SERVERS = JobServers()


@Parameter(name="*", group=Group("Tables", sort_key=6))
@dataclass(frozen=True, kw_only=True)
class TableArguments:
    """How rows of a table become requests."""

    prompt: Annotated[str | None, Parameter(help="The user's message, with columns in braces: 'Classify: {text}'.")] = (
        None
    )
    system: Annotated[str | None, Parameter(help="The system prompt, with columns in braces.")] = None
    key: Annotated[str | None, Parameter(help="The column that holds each row's name.")] = None
    url: Annotated[str, Parameter(help="The endpoint, such as /v1/embeddings.")] = "/v1/chat/completions"


@Parameter(name="*", group=Group("Files", sort_key=7))
@dataclass(frozen=True, kw_only=True)
class FileArguments:
    """How the files of a job are written."""

    order: Annotated[Literal["input", "completion"], Parameter(help="The order of the lines in OUT.")] = "input"
    durability: Annotated[
        Literal["normal", "strict", "none"],
        Parameter(
            help="What survives a loss of power: all but the last 0.1 s, everything that was counted, or what the "
            "system wrote."
        ),
    ] = "normal"
    cache: Annotated[
        str | None,
        Parameter(help="An SQLite file of answers, shared by jobs: requests that have an answer there are not sent."),
    ] = None
    report: Annotated[str | None, Parameter(help="Write this page of HTML at the end.")] = None
    new: Annotated[_Flag, Parameter(help="Start over, discarding the contents of OUT.")] = False


@Parameter(name="*", group=Group("Several machines", sort_key=8))
@dataclass(frozen=True, kw_only=True)
class ShardArguments:
    """Which part of the input this process answers, or the cluster that answers all of it."""

    shard: Annotated[
        str | None,
        Parameter(
            help="Answer one of several equal parts of the input, as NUMBER/TOTAL: 0/16 to 15/16. Its files are in "
            "OUT.shards, on a file system that all machines share; `merge` makes one output of all parts."
        ),
    ] = None
    first_shard: Annotated[
        int, Parameter(validator=Number(gte=0), help="The number of the first part: 1 for --shard 1/16 to 16/16.")
    ] = 0
    ray: Annotated[
        str | None,
        Parameter(
            help='Run on a Ray cluster, at HOST:PORT or the one found with "auto"; input and output are on a file '
            "system that all its nodes share. Workers read the key from their environment."
        ),
    ] = None
    workers: Annotated[
        int | None,
        Parameter(validator=Number(gte=1), help="Ray workers, of one CPU each. Default: one for each node."),
    ] = None
    key_command: Annotated[
        str | None, Parameter(help="A command that Ray workers run to read the key: they use what it prints.")
    ] = None


_NO_TABLE, _FILES, _ALL = TableArguments(), FileArguments(), ShardArguments()


def run(
    source: InputFile,
    /,
    *,
    out: _Out,
    model: Annotated[str | None, Parameter(name=("--model", "-m"))] = None,
    rpm: _Rpm = None,
    tpm: _Tpm = None,
    max_in_flight: _InFlight = None,
    max_cost: _Positive = None,
    prices: str | None = None,
    retries: Annotated[int, Parameter(validator=Number(gte=0))] = 5,
    give_up_after: Annotated[float, Parameter(validator=Number(gt=0))] = 600.0,
    schema: str | None = None,
    repair: Annotated[int, Parameter(validator=Number(gte=0))] = 1,
    dedupe: bool | None = None,
    via: Literal["calls", "batch"] = "calls",
    shard: ShardArguments = _ALL,
    table: TableArguments = _NO_TABLE,
    files: FileArguments = _FILES,
    servers: JobServers = ANY_SERVERS,
) -> int:
    """Send a file of requests and keep the answers; the same command continues an interrupted job.

    The input is JSON Lines in OpenAI's Batch format, or a table (.csv, .tsv, .parquet) with --prompt.
    Failed rows go to OUT.errors.jsonl, in a form that can be sent again, and the exit code is 3.
    Ctrl-C finishes the rows in flight; a second Ctrl-C discards them. A job that stops before its end exits with 1.

    Parameters
    ----------
    source:
        The file of requests; "-" is stdin, which is copied to OUT.input.jsonl.
    out:
        The file of answers; a table (.csv, .tsv, .parquet) is made of them at the end, from OUT.jsonl beside it.
    model:
        The model of rows that do not name one.
    max_cost:
        Dollars at which the job stops.
    prices:
        A JSON file with dollars per million tokens: {"MODEL": [PROMPT, ANSWER], "*": [0.5, 1.5]}.
    retries:
        How many times a row is sent again after a failure of the server or the network. 429s do not count.
    give_up_after:
        Seconds after which the job stops if servers only refuse (429) and fail; the same command continues it.
    schema:
        A file with the JSON schema of the answers, which are checked.
    repair:
        How many times a row is sent again if its answer does not fit --schema.
    dedupe:
        Send equal requests once. Default: only those with temperature 0.
    via:
        "batch": through the server's Batch API.
    """
    from .job_runner import run_job, table_options

    options: dict[str, Any] = {"model": model, "max_cost": max_cost, "retries": retries, "give_up_after": give_up_after}
    options |= {"schema": None if schema is None else schema_in(schema), "repair": repair, "dedupe": dedupe, "via": via}
    options |= {"table": table_options(source, table), "machines": shard, **asdict(files)}
    return run_job(servers, source, out, options, rpm=rpm, tpm=tpm, max_in_flight=max_in_flight, prices=prices)


def check(source: InputFile, /, *, model: str | None = None, prices: str | None = None, debug: Debug = False) -> int:
    """Check a file of requests: invalid lines, duplicates, tokens, cost. Sends nothing.

    Parameters
    ----------
    source:
        The file of requests; "-" is stdin.
    model:
        The model of rows that do not name one.
    prices:
        A JSON file with dollars per million tokens: {"MODEL": [PROMPT, ANSWER]}.
    """
    from .job_runner import check_input

    return check_input(source, model, prices)


def status(out: str, /, *, json: _Flag = False, debug: Debug = False) -> int:
    """Show the progress of the job with this output, from any terminal.

    Parameters
    ----------
    json:
        Print it as one JSON object.
    """
    from .job_status import show_status

    return show_status(out, json)


def retry(
    out: str,
    /,
    *,
    rpm: _Rpm = None,
    tpm: _Tpm = None,
    max_in_flight: _InFlight = None,
    max_cost: _Positive = None,
    prices: str | None = None,
    report: str | None = None,
    servers: JobServers = ANY_SERVERS,
) -> int:
    """Send the failed rows of a job again; their answers replace the failures in the output.

    Parameters
    ----------
    max_cost:
        Dollars at which the job stops, for all its runs together.
    prices:
        A JSON file with dollars per million tokens: {"MODEL": [PROMPT, ANSWER]}.
    report:
        Write this page of HTML at the end.
    """
    from .job_runner import retry_job

    options = {"max_cost": max_cost, "report": report}
    return retry_job(servers, out, options, rpm=rpm, tpm=tpm, max_in_flight=max_in_flight, prices=prices)


def merge(out: str, /, *, partial: _Flag = False, report: str | None = None, debug: Debug = False) -> int:
    """Make one output of the parts of an input that `run --shard` answered, in the order of the input.

    Parts that are not finished, or do not belong together, are an error that names them.

    Parameters
    ----------
    out:
        The output that was given to all parts.
    partial:
        Merge the existing answers of unfinished parts, too.
    report:
        Write this page of HTML.
    """
    from .shard_commands import merge_job

    return merge_job(out, partial, report)


def export(out: str, target: str, /, *, errors: _Flag = False, debug: Debug = False) -> int:
    """Write the answers of a job as a table: .csv, .tsv, .parquet or .jsonl, a row per answer.

    Parameters
    ----------
    errors:
        Include failed rows, with the column "error".
    """
    from .job_runner import export_job

    return export_job(out, target, errors)


def limits_set(
    out: str,
    /,
    *,
    rpm: _Rpm = None,
    tpm: _Tpm = None,
    max_in_flight: _InFlight = None,
    debug: Debug = False,
) -> int:
    """Change the limits of a job, while it runs or before it is continued."""
    from .job_runner import set_limits

    return set_limits(out, rpm, tpm, max_in_flight)


def add_job_commands(app: App) -> None:
    """Register the commands."""
    for command in (run, check, status, retry, merge, export):
        app.command(command)
    limits = App(name="limits", help="Change the limits of a job.", help_format="plaintext")
    limits.command(limits_set, name="set")
    app.command(limits)
