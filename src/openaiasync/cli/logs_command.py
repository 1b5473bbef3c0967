"""`openaiasync logs`: list, search and show logged calls, and turn the log on and off."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from ..lazy import resolve_annotations
from .console import CommandError, Exit, json_bytes, note, out, printable, write, write_bytes

if TYPE_CHECKING:
    from .call_log import CallLog

__all__ = ["add_logs_command"]

_Count = Annotated[int, Parameter(name=("--count", "-n"), validator=Number(gte=0), help="Number of calls; 0 for all.")]
_Json = Annotated[bool, Parameter(negative="", show_default=False, help="Print all that is known, as JSON.")]
_SHOWN = 72  # characters of a prompt in a list


def logs_list(
    *,
    count: _Count = 10,
    model: Annotated[str | None, Parameter(name=("--model", "-m"))] = None,
    current: Annotated[bool, Parameter(name=("--current", "-c"), negative="", show_default=False)] = False,
    json: _Json = False,
) -> int:
    """List the last calls, the last one first: the id of the conversation, time, model, and beginning of the prompt.

    Parameters
    ----------
    model:
        Only calls of this model.
    current:
        Only calls of the last conversation, which `chat -c` continues.
    """
    from .call_log import CallLog, log_path

    with CallLog.open(log_path()) as log:
        last = log.last("chat") if current else None
        if current and last is None:
            raise CommandError("the log has no conversation yet")
        found = log.recent(count, model, None if last is None else last.id)
    return _listed(found, json)


def logs_search(*words: str, count: _Count = 10, json: _Json = False) -> int:
    """List the last calls that have all these words in the prompt, the system prompt or the answer.

    Parameters
    ----------
    words:
        The words; in quotes, words that stand together.
    """
    from .call_log import CallLog, log_path

    wanted = [word for word in words if word.strip()]
    if not wanted:
        raise CommandError("name at least one word")
    with CallLog.open(log_path()) as log:
        found = log.search(wanted, count)
    return _listed(found, json)


def logs_show(conversation: str | None = None, /, *, json: _Json = False) -> int:
    """Show a conversation: its prompts and answers.

    Parameters
    ----------
    conversation:
        Its id, or the beginning of its id, as the list shows it. Default: the last one.
    """
    from .call_log import CallLog, log_path

    with CallLog.open(log_path()) as log:
        calls = log.calls(_conversation(log, conversation))
    if json:
        write_bytes(json_bytes(calls))
        return Exit.OK
    text = "\n\n".join(_markdown(call, first=index == 0) for index, call in enumerate(calls))
    if sys.stdout.isatty():
        from rich.segment import SegmentLines

        from .markdown import markdown_lines

        console = out()
        console.print(SegmentLines(markdown_lines(printable(text), console), new_lines=True), end="")
    else:
        write(f"{text}\n")
    return Exit.OK


def _conversation(log: CallLog, given: str | None) -> str:
    """Return the id of the conversation that is meant. Raises `CommandError`."""
    matching = log.conversations(given or "")
    if given is None and not matching:
        raise CommandError("nothing is logged yet")
    if given is None or given in matching:
        return given or matching[0]
    if not matching:
        raise CommandError(f"there is no conversation {given!r}; openaiasync logs lists them")
    if len(matching) > 1:
        raise CommandError(f"{len(matching)} conversations begin with {given!r}; give more of the id")
    return matching[0]


def logs_path() -> int:
    """Print the path of the log. Removing this file removes the log."""
    from .call_log import log_path

    write(f"{log_path()}\n")
    return Exit.OK


def logs_on() -> int:
    """Log calls, which is the default."""
    from .call_log import set_logging

    set_logging(True)
    return Exit.OK


def logs_off() -> int:
    """Stop logging calls. The existing log is kept."""
    from .call_log import set_logging

    set_logging(False)
    return Exit.OK


def logs_status() -> int:
    """Print whether calls are logged, the path of the log, and the number of calls in it."""
    from .call_log import CallLog, is_logging, log_path

    path = log_path()
    write(f"{'on' if is_logging() else 'off'}\n{path}\n")
    if path.exists():
        with CallLog.open(path) as log:
            write(f"{log.count():,} calls, {path.stat().st_size:,} bytes\n")
    return Exit.OK


def _listed(calls: list[dict[str, Any]], as_json: bool) -> int:
    if as_json:
        write_bytes(json_bytes(calls))
        return Exit.OK
    rows = [
        (call["conversation"], _time(call["at"]), call["model"] or "", _beginning(call["prompt"])) for call in calls
    ]
    if not rows:
        note("There are no such calls.")
    elif sys.stdout.isatty():
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("conversation", no_wrap=True)
        for head in ("time", "model", "prompt"):
            table.add_column(head, overflow="fold")
        for row in rows:
            table.add_row(*map(printable, row))
        out().print(table)
    else:
        write("".join("\t".join(row) + "\n" for row in rows))
    return Exit.OK


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _beginning(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN else f"{line[: _SHOWN - 1]}…"


def _markdown(call: dict[str, Any], *, first: bool) -> str:
    """Return a call as Markdown, the first of a conversation with the system prompt."""
    parts = [f"# {call['conversation']}, {_time(call['at'])}, {call['model'] or call['command']}"]
    if first and call["system"]:
        parts += ["## System prompt", call["system"]]
    parts.append("## Prompt")
    parts += [f"`{one['source']}` ({one['hash'][:12]})" for one in call["fragments"] or ()]
    parts += [f"`{name}`" for name in call["files"] or ()]
    parts += [part for part in (call["prompt"], "## Answer", call["answer"]) if part]
    return "\n\n".join(parts)


def add_logs_command(app: App) -> None:
    """Add `logs` with its subcommands; alone it lists."""
    logs = App(name="logs", help="List, search and show logged questions and answers.", help_format="plaintext")
    logs.default(logs_list)
    for name, command in (
        ("list", logs_list),
        ("search", logs_search),
        ("show", logs_show),
        ("path", logs_path),
        ("on", logs_on),
        ("off", logs_off),
        ("status", logs_status),
    ):
        logs.command(command, name=name)
    app.command(logs)


resolve_annotations(__name__)
