"""The built-in server: an OpenAI-compatible API over demo models (`demo_app`), and a small HTTP server (`serve`)."""

from __future__ import annotations

from .app import App, demo_app
from .connection import ServerLimits
from .errors import HTTPError
from .http import HTTPServer, serve
from .thread import ServerThread, start_in_thread

__all__ = [
    "App",
    "HTTPError",
    "HTTPServer",
    "ServerLimits",
    "ServerThread",
    "demo_app",
    "serve",
    "start_in_thread",
]

Refusal = HTTPError  # its former name
