"""How this package was installed, and the commands that install more of it from the same place."""

from __future__ import annotations

import json
import os
import shlex
from importlib import metadata
from typing import Any, cast
from urllib.parse import unquote, urlsplit

__all__ = ["install_command", "requirement"]


def requirement(extra: str) -> str:
    """Return the requirement that adds an extra, for pip, `uvx --from` and `pipx run --spec`.

    It names where the package came from, as the installer has noted (``direct_url.json``, PEP 610): a folder, a file or
    a repository. Otherwise it is the name of the package, for the index that it came from.
    """
    source = _source()
    url = str(source.get("url", ""))
    if "vcs_info" in source:
        commit = source["vcs_info"].get("commit_id", "")
        return f"openaiasync[{extra}] @ {source['vcs_info'].get('vcs', 'git')}+{url}{commit and f'@{commit}'}"
    if "archive_info" in source:
        return f"openaiasync[{extra}] @ {url}"
    if "dir_info" in source and url.startswith("file:"):
        folder = unquote(urlsplit(url).path)
        here = os.path.isdir(folder) and os.path.samefile(folder, os.curdir)
        return f"{'.' if here else folder}[{extra}]"
    return f"openaiasync[{extra}]"


def install_command(extra: str) -> str:
    """Return the command that installs an extra beside what is here, such as ``pip install 'openaiasync[cli]'``."""
    editable = "-e " if _source().get("dir_info", {}).get("editable") else ""
    return f"pip install {editable}{shlex.quote(requirement(extra))}"


def _source() -> dict[str, Any]:
    """Return the note of the installer; {} for an installation from an index, or none at all."""
    try:
        noted: Any = json.loads(metadata.distribution("openaiasync").read_text("direct_url.json") or "{}")
    except (metadata.PackageNotFoundError, OSError, ValueError):
        return {}
    return cast("dict[str, Any]", noted) if isinstance(noted, dict) else {}
