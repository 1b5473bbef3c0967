"""The built-in server: an OpenAI-compatible API over demo models (`demo_app`), and a small HTTP server (`serve`)."""

from __future__ import annotations

from .app import App, demo_app
from .connection import ServerLimits
from .http import Server, serve
from .refusal import Refusal
from .thread import ServerThread, start_in_thread

__all__ = [
    "App",
    "Refusal",
    "Server",
    "ServerLimits",
    "ServerThread",
    "demo_app",
    "serve",
    "start_in_thread",
]
