"""Keeps programs of the documentation on this machine: any name but that of the loopback interface is unknown.

Python imports this module at its start, if its folder is on `PYTHONPATH`.
"""

import socket
from typing import Any

_resolve = socket.getaddrinfo


def getaddrinfo(host: Any, *arguments: Any, **keywords: Any) -> Any:
    """Resolve a loopback address; raise `socket.gaierror` for any other, as a resolver without a network does."""
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name in ("localhost", "::1", "0.0.0.0", "::", "") or name.startswith("127."):
        return _resolve(host, *arguments, **keywords)
    raise socket.gaierror(socket.EAI_NONAME, f"no network for the documentation, not even for {name}")


socket.getaddrinfo = getaddrinfo
