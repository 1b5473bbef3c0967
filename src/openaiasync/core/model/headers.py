"""Header fields of a response: a case-insensitive mapping over its bytes, parsed at first use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ...lazy import resolve_annotations

if TYPE_CHECKING:
    from .secrets import Secrets

__all__ = ["Headers"]


class Headers(Mapping[str, str]):
    """Header fields by case-insensitive name (RFC 9110, section 5.1).

    Made from field lines (each ends with CRLF) or from pairs. A repeated field reads as its values joined with ``", "``
    (RFC 9110, section 5.3); `get_list` returns them one by one.
    """

    __slots__ = ("_pairs", "_raw", "_table")

    def __init__(self, raw: bytes | None = None, pairs: tuple[tuple[str, str], ...] = ()) -> None:
        self._raw = raw
        self._pairs = pairs
        self._table: dict[str, list[str]] | None = None

    def raw_pairs(self) -> tuple[tuple[str, str], ...]:
        """Return name and value of every field in order, names as they were sent."""
        if self._raw is not None:
            lines = self._raw.decode("latin-1").split("\r\n")
            split = (line.partition(":") for line in lines if line)
            self._pairs = tuple((name, value.strip(" \t")) for name, _, value in split)
            self._raw = None
        return self._pairs

    def _parsed(self) -> dict[str, list[str]]:
        if self._table is None:
            table: dict[str, list[str]] = {}
            for name, value in self.raw_pairs():
                table.setdefault(name.lower(), []).append(value)
            self._table = table
        return self._table

    def get_list(self, name: str) -> list[str]:
        """Return every value of a field in order; ``[]`` if it is absent."""
        return list(self._parsed().get(name.lower(), ()))

    def cleaned(self, secrets: Secrets) -> Headers:
        """Return the fields without these secrets; the same object if there are none in them."""
        pairs = self.raw_pairs()
        clean = secrets.clean(pairs)
        return self if clean is pairs else Headers(pairs=clean)

    def __getitem__(self, name: str) -> str:
        return ", ".join(self._parsed()[name.lower()])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._parsed()

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed())

    def __len__(self) -> int:
        return len(self._parsed())

    def __repr__(self) -> str:
        return f"Headers({dict(self)!r})"

    def __reduce__(self) -> tuple[type[Headers], tuple[None, tuple[tuple[str, str], ...]]]:
        return (Headers, (None, self.raw_pairs()))


resolve_annotations(__name__)
