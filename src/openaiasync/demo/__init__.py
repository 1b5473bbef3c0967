"""Small models that need no network, built on the server kit; `openaiasync serve` and `openaiasync demo` run them."""

from __future__ import annotations

from .demo_server import DEMO_MODELS, demo_app

__all__ = ["DEMO_MODELS", "demo_app"]
