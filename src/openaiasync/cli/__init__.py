"""The command line: `openaiasync chat`, `models`, `serve` and others. Needs the extra ``[cli]`` (cyclopts and rich).

This module imports neither of them, so that it can say that the extra is missing.
"""

from __future__ import annotations

import os
import shlex
import sys

__all__ = ["main"]

_EXTRA = frozenset({"cyclopts", "rich"})


def main() -> None:
    """Run the command in `sys.argv` and exit: 0 success, 1 failure, 2 wrong usage, 3 failed rows, 130 interrupted."""
    _open_standard_files()
    try:
        from .command_line import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        from ..installation import install_command, requirement

        again = shlex.join(["uvx", "--from", requirement("cli"), "openaiasync", *sys.argv[1:]])
        needs = f"openaiasync: the command line needs {missing!r}, which is not installed"
        sys.exit(f"{needs}; install the extra with {install_command('cli')}, or run {again}")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))


def _open_standard_files() -> None:
    """Open the standard files that the caller has closed (``>&-``).

    Otherwise the first socket would become stdout, and Python's `sys.stdout` is `None`. What is written to a closed
    stdout fails as it does for other programs: it must not be lost silently.
    """
    for descriptor, name, flags in ((0, "", os.O_RDONLY), (1, "stdout", os.O_RDONLY), (2, "stderr", os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, flags)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
        if name and getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(descriptor, "w", encoding="utf-8", closefd=False))
