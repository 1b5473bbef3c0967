"""``python tools/generate --spec PATH`` writes the generated files of `src/openaiasync`; ``--check`` only compares."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    # The program is run by path, and this folder's modules must not shadow the standard library's.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from generate.write import main

if __name__ == "__main__":
    sys.exit(main())
