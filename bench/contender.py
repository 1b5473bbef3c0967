"""The interface of all contenders."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import Any

from payloads import messages, texts

MODEL = "gpt-4o-mini"
KEY = "sk-bench-0123456789abcdef"
CA = "BENCH_CA"  # names the file of the authority that signed the TLS server's certificate

Seen = Callable[[], Any] | None  # called at every event of a stream


class Contender:
    """One client; `base` is the server, whose paths begin with the name of an answer.

    `chat` answers one typed completion, `stream` the number of typed events of one stream, `embed` the number of
    vectors of one answer, which is kept, since freeing 50 MB takes time too. Contenders without types of their
    own decode into ours.
    """

    answer: Any = None

    def __init__(self, base: str, in_flight: int) -> None:
        self.base = base
        self.in_flight = in_flight
        self.messages = messages()
        self.texts = texts()
        self.tls = ssl.create_default_context(cafile=os.environ[CA]) if base.startswith("https:") else None

    async def open(self) -> None:
        """Prepare the objects that all calls share."""

    async def chat(self, name: str) -> Any:
        raise NotImplementedError

    async def stream(self, name: str, seen: Seen = None) -> int:
        raise NotImplementedError

    async def embed(self, name: str) -> int:
        raise NotImplementedError
