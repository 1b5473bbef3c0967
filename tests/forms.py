"""Reads multipart bodies with the standard library's own parser, so that our writer is not judged by ourselves."""

from __future__ import annotations

from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from typing import NamedTuple


class Part(NamedTuple):
    """One part of a form as a server sees it."""

    name: str
    content: bytes
    file_name: str | None = None
    media_type: str | None = None


def parts_of(content_type: str, body: bytes) -> list[Part]:
    """The parts of a form in their order; `AssertionError` for a body that is not a complete form."""
    boundary = content_type.partition("boundary=")[2]
    assert boundary
    assert body.endswith(f"--{boundary}--\r\n".encode()), "the form has no end"
    message = BytesParser(policy=policy.HTTP).parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    assert message.is_multipart()
    assert not message.defects, message.defects
    parts: list[Part] = []
    for part in message.iter_parts():
        assert isinstance(part, EmailMessage)
        disposition = part["content-disposition"]
        assert disposition.content_disposition == "form-data"
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        media_type = part.get("content-type")
        parts.append(Part(disposition.params["name"], content, disposition.params.get("filename"), media_type))
    return parts
