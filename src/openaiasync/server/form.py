"""Parses ``multipart/form-data`` (RFC 7578): the parts of a body, and the fields they stand for.

Strict, as a server for testing clients should be: lines must end with CRLF, nothing may precede the first part or
follow the last one, and parameters that RFC 7578 forbids (``filename*``, transfer encodings) are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from ..core.http.grammar import TOKEN
from .errors import HTTPError

__all__ = ["UploadedFile", "body_of", "parse_boundary", "parse_form"]

_MAX_PARTS: Final = 256
_MAX_HEAD: Final = 8192  # bytes of a part's header
_MAX_FIELDS: Final = 16
_MAX_TEXT: Final = 1024 * 1024  # bytes of a value that is not a file
_PARAMETER: Final = re.compile(rf'[ \t]*;[ \t]*({TOKEN})=(?:({TOKEN})|"((?:[^"\\\r\n]|\\.)*)")[ \t]*')
_BOUNDARY: Final = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")  # RFC 2046, 5.1.1
_FIELD: Final = re.compile(rf"({TOKEN}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_KEYED: Final = re.compile(r"([^\[\]]+)(?:\[([^\[\]]*)\])?")
_UNQUOTED: Final = {"%22": '"', "%0D": "\r", "%0A": "\n"}  # WHATWG HTML, multipart/form-data encoding
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,18})?(?:[eE][+-]?[0-9]{1,3})?")
_FLAGS: Final = {"true": True, "false": False}


class UploadedFile(NamedTuple):
    """A part of a form: a file if it has a `file_name`, otherwise a plain value.

    `media_type` is as declared by the client, in lower case and without parameters, or empty.
    """

    name: str
    file_name: str | None
    media_type: str
    content: bytes


def parse_boundary(content_type: bytes | None) -> bytes:
    """Return the boundary of a ``Content-Type``. Raises `HTTPError`: 415 for another type, 400 without a boundary."""
    value = (content_type or b"").decode("latin-1")
    media, _, _ = value.partition(";")
    if media.strip().lower() != "multipart/form-data":
        raise HTTPError(415, "The content type must be multipart/form-data.")
    boundary = _parameters(value[len(media) :], "Content-Type").get("boundary", "")
    if _BOUNDARY.fullmatch(boundary) is None:
        raise _malformed("the Content-Type has no valid boundary")
    return boundary.encode("ascii")


def parse_form(boundary: bytes, body: bytes) -> list[UploadedFile]:
    """Return the parts of a body in order. Raises `HTTPError`: 400 for a malformed form, 413 for too many parts."""
    delimiter = b"\r\n--" + boundary
    if body.startswith(delimiter[2:]):
        place = len(delimiter) - 2
    elif body.startswith(delimiter):
        place = len(delimiter)
    else:
        raise _malformed("it does not begin with its boundary")
    parts: list[UploadedFile] = []
    while (start := _after_delimiter(body, place)) is not None:
        if len(parts) == _MAX_PARTS:
            raise HTTPError(413, f"The form has more than {_MAX_PARTS} parts.")
        end = body.find(delimiter, start)
        if end < 0:
            raise _malformed("it ends before its last boundary")
        parts.append(_part(body, start, end))
        place = end + len(delimiter)
    return parts


def _after_delimiter(body: bytes, place: int) -> int | None:
    """Return the offset of the part after a delimiter, `None` after the last delimiter."""
    if body.startswith(b"--", place):
        if body[place + 2 :].strip(b" \t") not in (b"", b"\r\n"):
            raise _malformed("something follows its last boundary")
        return None
    line_end = body.find(b"\r\n", place, place + 256)
    if line_end < 0 or body[place:line_end].strip(b" \t"):
        raise _malformed("a boundary is followed by other characters on its line")
    return line_end + 2


def _part(body: bytes, start: int, end: int) -> UploadedFile:
    # The CRLF before the part counts: a part without a header begins with the empty line.
    head_end = body.find(b"\r\n\r\n", start - 2, min(end, start + _MAX_HEAD))
    if head_end < 0:
        raise _malformed("a part's header has no end or is too long")
    fields = _head(body[start:head_end] if head_end > start else b"")
    name, file_name = _disposition(fields.get("content-disposition"))
    _check_encoding(name, fields)
    kind, _, parameters = fields.get("content-type", "").partition(";")
    content = body[head_end + 4 : end]
    if file_name is None:
        charset = _parameters(";" + parameters, "Content-Type").get("charset", "utf-8") if parameters else "utf-8"
        if charset.lower() not in ("utf-8", "us-ascii"):
            raise HTTPError(400, f"The field '{name}' is not in UTF-8.", param=name, code="invalid_value")
        if len(content) > _MAX_TEXT:
            raise HTTPError(413, f"The field '{name}' is larger than {_MAX_TEXT} bytes.", param=name)
    return UploadedFile(name, file_name, kind.strip().lower(), content)


def _head(head: bytes) -> dict[str, str]:
    try:
        lines = head.decode("utf-8").split("\r\n") if head else []
    except UnicodeDecodeError:
        raise _malformed("a part's header is not in UTF-8") from None
    if len(lines) > _MAX_FIELDS:
        raise _malformed(f"a part has more than {_MAX_FIELDS} header fields")
    fields: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise _malformed("a part's header field is malformed")
        name = match[1].lower()
        if name in fields and name.startswith("content-"):
            raise _malformed(f"a part has two {name} fields")
        fields[name] = match[2].strip(" \t")
    return fields


def _disposition(value: str | None) -> tuple[str, str | None]:
    """Return the name and the file name (RFC 7578, 4.2)."""
    kind, _, _ = (value or "").partition(";")
    if value is None or kind.strip().lower() != "form-data":
        raise _malformed("a part lacks 'Content-Disposition: form-data'")
    parameters = _parameters(value[len(kind) :], "Content-Disposition")
    if "filename*" in parameters:
        raise _malformed("a part has 'filename*', which RFC 7578 forbids")
    name = parameters.get("name")
    if not name:
        raise _malformed("a part has no name")
    return name, parameters.get("filename")


def _check_encoding(name: str, fields: dict[str, str]) -> None:
    encoding = fields.get("content-transfer-encoding", "binary").lower()
    if encoding not in ("7bit", "8bit", "binary"):
        message = f"The part '{name}' has the transfer encoding {encoding!r}, which RFC 7578 forbids."
        raise HTTPError(400, message, param=name, code="invalid_value")


def _parameters(text: str, field: str) -> dict[str, str]:
    """Return the parameters after the value of a header field."""
    found: dict[str, str] = {}
    place = 0
    while place < len(text):
        match = _PARAMETER.match(text, place)
        if match is None:
            raise _malformed(f"the parameters of {field} are malformed")
        name = match[1].lower()
        if name in found:
            raise _malformed(f"{field} has '{name}' twice")
        quoted = match[3]
        found[name] = match[2] if quoted is None else _unquoted(quoted)
        place = match.end()
    return found


def _unquoted(text: str) -> str:
    text = re.sub(r"\\(.)", r"\1", text)
    return re.sub("%(?:22|0D|0A)", lambda match: _UNQUOTED[match[0]], text)


def _malformed(why: str) -> HTTPError:
    return HTTPError(400, f"The form cannot be read: {why}.", code="invalid_multipart")


# -------------------------------------------------------------------------------------------------- fields


def body_of(parts: Sequence[UploadedFile], kinds: Callable[[str], frozenset[str]]) -> dict[str, Any]:
    """Return the fields of a form like a JSON body: ``name[]`` is an array, ``name[key]`` a member of an object.

    `kinds` returns the JSON types that a field may have: a text that is a valid number or boolean is converted if that
    type is among them; otherwise it stays a text, which the validation refuses. A field that may be an array may also
    repeat its name without brackets. Files stay `UploadedFile`. Raises `HTTPError` (400) for any other repeated name,
    and for a name used with and without brackets.
    """
    body: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {}
    objects: dict[str, dict[str, Any]] = {}
    for part in parts:
        match = _KEYED.fullmatch(part.name)
        if match is None:
            raise HTTPError(400, f"'{part.name}' is not a valid field name.", param=part.name, code="invalid_value")
        name, key = match[1], match[2]
        allowed = kinds(name)
        if key is None and "array" in allowed:
            key = ""
        value = _value(name, part, allowed)
        own = lists if key == "" else objects
        if name in body and (key is None or name not in own or key in objects.get(name, ())):
            raise HTTPError(400, f"The field '{name}' is repeated.", param=name, code="invalid_value")
        if key is None:
            body[name] = value
        elif not key:
            body[name] = lists.setdefault(name, [])
            lists[name].append(value)
        else:
            body[name] = objects.setdefault(name, {})
            objects[name][key] = int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else value
    return body


def _value(name: str, part: UploadedFile, kinds: frozenset[str]) -> Any:
    if part.file_name is not None:
        return part
    try:
        text = part.content.decode("utf-8")
    except UnicodeDecodeError:
        raise HTTPError(400, f"The field '{name}' is not in UTF-8.", param=name, code="invalid_value") from None
    if "integer" in kinds and _INTEGER.fullmatch(text):
        return int(text)
    if "number" in kinds and _NUMBER.fullmatch(text):
        return float(text)
    return _FLAGS.get(text, text) if "boolean" in kinds else text
