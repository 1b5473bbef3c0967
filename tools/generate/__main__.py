"""``python tools/generate --spec PATH`` writes the generated places of `src/openaiasync`; ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # Run by path: the folder's own modules must not stand in for the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from generate.write import main

if __name__ == "__main__":
    sys.exit(main())
