"""Shards on the command line: the option of `run`, `merge`, and finding the shards of an output."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from ..bulk.fingerprint import folder_of, paths_of
from ..bulk.object_storage import is_url
from ..bulk.remote_shards import merge_output
from ..bulk.shards import Shard, ShardPlan, local_file_system, shard_path
from ..lazy import resolve_annotations
from .console import CommandError, note
from .job_status import exit_code, local_answers, note_report

if TYPE_CHECKING:
    from .job_commands import ShardArguments

__all__ = ["failed_shards", "merge_job", "shard_folders", "shard_option", "whole_output"]


def shard_option(target: str, given: ShardArguments) -> Shard | None:
    """Return the shard that --shard names; print a note if other machines cannot see its files.

    Raises `CommandError`.
    """
    if given.ray is None and (given.workers is not None or given.key_command is not None):
        raise CommandError("--workers and --key-command are for --ray")
    if given.ray is not None and given.shard is not None:
        raise CommandError("--ray runs all shards; --shard runs one of them without Ray")
    if given.shard is None:
        if given.first_shard:
            raise CommandError("--first-shard says how --shard counts; there is no --shard")
        return None
    try:
        shard = Shard.of(given.shard, given.first_shard)
    except ValueError as error:
        raise CommandError(f"--shard: {error}") from None
    if is_url(target):
        return shard
    folder = os.path.dirname(os.path.realpath(target))
    many = shard.total > 1 and any(name in os.environ for name in ("KUBERNETES_SERVICE_HOST", "SLURM_JOB_ID"))
    if many and (kind := local_file_system(folder)) is not None:
        note(
            f"{folder} is on a {kind} file system, which only {socket.gethostname()} can see: the shards of other "
            "machines will be missing when they are merged. Use a mounted volume."
        )
    return shard


def merge_job(target: str, partial: bool, report: str | None) -> int:
    """Merge the shards of an output and return the exit code."""
    found = merge_output(target, partial=partial, html=report)
    note_report(found)
    return exit_code(found)


def _shards_of(target: str) -> tuple[str, range]:
    """Return the path of the answers and the numbers of the shards; none for a job without shards."""
    answers = local_answers(target)
    plan = ShardPlan.load(answers)
    return answers, range(0 if plan is None else plan.count)


def shard_folders(target: str) -> list[str]:
    """Return the folders of an output's shards that have started."""
    answers, numbers = _shards_of(target)
    folders = [folder_of(shard_path(answers, number)) for number in numbers]
    return [folder for folder in folders if os.path.isdir(folder)]


def failed_shards(target: str) -> list[int] | None:
    """Return the shards of an output that have failed rows; `None` for a job without shards."""
    answers, numbers = _shards_of(target)
    if not numbers:
        return None
    errors = {number: paths_of(shard_path(answers, number))[0] for number in numbers}
    return [number for number, path in errors.items() if os.path.exists(path) and os.path.getsize(path)]


def whole_output(target: str) -> str:
    """Return the output that a shard's file belongs to."""
    return os.path.dirname(os.path.realpath(target)).removesuffix(".shards")


resolve_annotations(__name__)
