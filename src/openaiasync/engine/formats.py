"""Answers whose type depends on the format that was asked for: transcripts and translations."""

from __future__ import annotations

from typing import Any

from ..core.codec.endpoint import Request

__all__ = ["TEXT_FORMATS", "formatted_type"]

TEXT_FORMATS = frozenset({"text", "srt", "vtt"})
_KINDS = {"verbose_json": "Verbose", "diarized_json": "Diarized"}


def formatted_type(request: Request) -> Any:
    """The type of a transcript that comes as JSON. The types alone do not tell verbose from diarized answers."""
    module, _, name = request.endpoint.type.partition(":")
    package = module.rpartition(".")[0]
    return request.endpoint.load(
        f"{package}:{name.removesuffix('CreateResponse')}{_KINDS.get(request.response_format, '')}"
    )
