"""One front for several OpenAI-compatible servers: `Front`."""

from __future__ import annotations

from .accounts import ClientKey
from .application import Front
from .upstreams import FrontUpstream

__all__ = ["ClientKey", "Front", "FrontUpstream"]
