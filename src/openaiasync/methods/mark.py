"""The mark of methods that `with_raw_response` and `with_streaming_response` do not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["no_raw_twin"]

F = TypeVar("F", bound=Callable[..., Any])


def no_raw_twin(method: F) -> F:
    """Mark a method whose answer is no single answer of a server."""
    method.__dict__["no_raw_twin"] = True
    return method
