"""Small models that need no network, on the server kit: what `openaiasync serve` and `openaiasync demo` run."""

from __future__ import annotations

from .demo_server import DEMO_MODELS, demo_app

__all__ = ["DEMO_MODELS", "demo_app"]
