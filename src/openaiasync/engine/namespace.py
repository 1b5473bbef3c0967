"""The base of every group of methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.model.method_signatures import explicit_signatures
from .engine import Engine

if TYPE_CHECKING:
    from .raw import RawMethods, StreamedMethods

__all__ = ["Namespace"]


class Namespace:
    """The base of every group of methods (`client.chat`): a real object, made once per client, free to be patched."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        explicit_signatures(cls)

    def __init__(self, calls: Engine) -> None:
        self._calls = calls

    @property
    def with_raw_response(self) -> RawMethods:
        """The same methods, answering a `RawResponse`: status, header fields, body; `parse()` decodes."""
        from .raw import RawMethods

        return RawMethods(self, self._calls)

    @property
    def with_streaming_response(self) -> StreamedMethods:
        """The same methods, answering a context manager of a `StreamedResponse`, whose body is read as you ask."""
        from .raw import StreamedMethods

        return StreamedMethods(self, self._calls)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"
