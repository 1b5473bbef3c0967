"""For tests of what is built on this library: a transport without a network."""

from __future__ import annotations

from ..transport.fake import FakeAnswer, FakeRequest, FakeTransport

__all__ = ["FakeAnswer", "FakeRequest", "FakeTransport"]
