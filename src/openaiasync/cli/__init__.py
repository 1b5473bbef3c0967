"""The command line: `openaiasync demo | models | chat | embed | serve`. Needs the extra ``[cli]`` (cyclopts and rich).

This module imports neither of them, so that it can say that the extra is missing.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

_EXTRA = frozenset({"cyclopts", "rich"})


def main() -> None:
    """Run the command in `sys.argv` and exit: 0 success, 1 failure, 2 wrong usage, 3 failed rows, 130 interrupted."""
    try:
        from .command_line import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        needs = f"openaiasync: the command line needs {missing!r}, which is not installed"
        sys.exit(f"{needs}; install the extra: pip install 'openaiasync[cli]'")
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))
