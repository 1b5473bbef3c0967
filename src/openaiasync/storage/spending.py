"""What the requests of a job have spent, in records of its journal beside those of its rows.

A record holds what was spent since the one before and is written together with the marks of finished rows, so that the
sums are exact after a process was killed. It has the size of the journal's other records, with `kind`, `magic` and the
line feed in the same places.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

__all__ = ["SPENT", "Spending"]

SPENT = 12  # kind of the record
_RECORD = struct.Struct("<IBBIdHHBBB")
_MAGIC, _END = 0xA7, 0x0A
_MOST = (2**32 - 1, 2**32 - 1, 2**16 - 1, 2**16 - 1, 2**8 - 1, 2**8 - 1)  # of each number in one record


class Spending(NamedTuple):
    """Sums over all finished requests of a job: refused and failed ones count as finished. `cost` is in dollars."""

    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    refused: int = 0
    retried: int = 0
    cached: int = 0
    cost: float = 0.0

    def since(self, before: Spending) -> bytes:
        """Return the records that lead from `before` to these sums; more than one where a number does not fit."""
        marks = b""
        left = [max(0, now - then) for now, then in zip(self[:6], before[:6], strict=True)]
        cost = self.cost - before.cost
        while any(left) or cost:
            some = [min(number, most) for number, most in zip(left, _MOST, strict=True)]
            spent, made, requests, refused, retried, cached = some
            marks += _RECORD.pack(spent, SPENT, _MAGIC, made, cost, requests, refused, retried, cached, _END)
            left = [number - taken for number, taken in zip(left, some, strict=True)]
            cost = 0.0
        return marks

    def plus(self, record: bytes) -> Spending:
        """Return the sums after a record."""
        spent, _, _, made, cost, requests, refused, retried, cached, _ = _RECORD.unpack(record)
        return Spending(
            self.input_tokens + spent,
            self.output_tokens + made,
            self.requests + requests,
            self.refused + refused,
            self.retried + retried,
            self.cached + cached,
            self.cost + cost,
        )
