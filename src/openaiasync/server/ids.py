"""Identifiers of answers and requests: they cannot be guessed, since an identifier is enough to retrieve an answer."""

from __future__ import annotations

import os

__all__ = ["random_hex"]

_BYTES = 12  # of an identifier
_CHUNK = 341 * _BYTES  # bytes that are read from the system at once: a read costs more than all else
_pool: list[str] = []


def random_hex() -> str:
    """Return 24 hexadecimal digits, 96 bits, from the system's random numbers."""
    try:
        return _pool.pop()
    except IndexError:
        _pool.extend(os.urandom(_CHUNK).hex(" ", _BYTES).split())
        return _pool.pop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)  # the parent process will use these
