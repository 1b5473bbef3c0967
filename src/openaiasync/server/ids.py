"""Identifiers of answers and requests: they cannot be guessed, since an identifier is enough to retrieve an answer."""

from __future__ import annotations

import os

__all__ = ["random_hex"]

_CHUNK = 4096  # bytes that are read from the system at once: a read costs more than all else about an identifier
_pool: list[str] = []


def random_hex() -> str:
    """Return 24 hexadecimal digits, 96 bits, from the system's random numbers."""
    try:
        return _pool.pop()
    except IndexError:
        digits = os.urandom(_CHUNK).hex()
        _pool.extend(digits[start : start + 24] for start in range(0, len(digits) - 23, 24))
        return _pool.pop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)  # the parent process will use these
