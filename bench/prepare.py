"""Make the environments of the bench: ``bench/.envs/peers`` and, since its requirements differ, ``.../litellm``.

`python bench/prepare.py`. Needs an index of packages; installs openaiasync from this checkout.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENVIRONMENTS = HERE / ".envs"
PEERS = ["openai[aiohttp]", "aiohttp", "httpx2", "pyreqwest", "uvloop", "msgspec", "trustme"]


def make(name: str, *packages: str) -> None:
    """Make an environment with the newest versions of these packages."""
    home = ENVIRONMENTS / name
    venv.create(home, with_pip=True)
    pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", "--upgrade"]
    subprocess.run([*pip, *packages], check=True)


if __name__ == "__main__":
    make("peers", "-e", str(HERE.parent), *PEERS)
    try:
        make("litellm", "litellm")
    except subprocess.CalledProcessError as error:
        print(f"without litellm: {error}", file=sys.stderr)
