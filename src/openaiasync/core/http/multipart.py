"""Bodies of uploads, ``multipart/form-data`` (RFC 7578), as a list of parts; `engine.uploads` reads their files.

Plain values come first, then the files; arrays are ``name[]``, objects ``name[key]``. Names are encoded as by the
official client: quotes and control characters in percent notation (WHATWG HTML, multipart/form-data), backslashes
doubled.
"""

from __future__ import annotations

import datetime
import enum
import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain
from typing import IO, Any, NamedTuple, TypeAlias, cast

from ..codec.encode import encode_json
from ..model.base import BaseModel
from ..model.media_types import SNIFFED, extension, media_type_of
from ..model.omitted import is_omitted
from .grammar import is_token

__all__ = ["UNNAMED", "BareText", "Multipart", "Naming", "Part", "is_file"]

UNNAMED = "upload"  # the default file name: without one, servers take a part for a text field
_ANY_TYPE = "application/octet-stream"
_UNTYPED: Mapping[str, str] = {}
_UNQUOTABLE = re.compile(r'["\\\x00-\x1f\x7f]')
_BAD_FIELD = re.compile(r"[^\t\x20-\x7e\x80-\U0010ffff]")
_OURS = frozenset({"content-disposition", "content-length", "content-transfer-encoding", "transfer-encoding"})
"""Fields of a part that frame and name it: a second one would contradict the first."""


Naming: TypeAlias = Callable[[bytes], bytes]


class Part(NamedTuple):
    """One part: its header with the empty line after it, and its content: bytes, a path as `str`, or an open file.

    A CRLF follows the content. If name or type of a file depend on its first bytes, `naming` makes the header from
    these, and `head` is the header for unrecognised bytes.
    """

    head: bytes
    content: bytes | str | IO[bytes]
    naming: Naming | None = None


class Multipart:
    """The body of one upload, before its files are opened. Equal values give equal bodies except for the boundary."""

    __slots__ = ("boundary", "parts", "uploads")

    def __init__(self, parts: list[Part], uploads: int, boundary: str) -> None:
        self.parts: list[Part] = parts
        self.uploads: int = uploads  # the number of parts that are files
        self.boundary: str = boundary

    @classmethod
    def of(
        cls,
        fields: Mapping[str, Any],
        files: Collection[str] = (),
        typed: Mapping[str, str] = _UNTYPED,
        boundary: str | None = None,
    ) -> Multipart:
        """Return the body for these fields: `files` names those that take only files, `typed` media types of others.

        Raises `TypeError` for a value that is not a file where one is required, and `ValueError` for an empty path, and
        for a number or text that cannot be sent.
        """
        values: list[tuple[str, Any]] = []
        uploads: list[tuple[str, Any]] = []
        for name, value in fields.items():
            if name in typed:
                if not is_omitted(value):
                    uploads.append(
                        (name, _UploadPart((None, _encoded(name, value, typed[name]), typed[name]), is_file=False))
                    )
                continue
            for key, item in _flat(name, value, name in files):
                (uploads if _is_upload(item) else values).append((key, item))
        if boundary is None:
            import secrets

            boundary = secrets.token_hex(16)  # random, so that no field can contain it
        parts = [Part(_head(boundary, key, None, None), _text(key, value)) for key, value in values]
        parts += [_file_part(boundary, key, item) for key, item in uploads]
        return cls(parts, len(uploads), boundary)

    @property
    def content_type(self) -> str:
        """The value of ``Content-Type``."""
        return f"multipart/form-data; boundary={self.boundary}"

    @property
    def tail(self) -> bytes:
        """The bytes after the last part."""
        return f"--{self.boundary}--\r\n".encode()

    def __repr__(self) -> str:
        return f"<Multipart of {len(self.parts)} parts, {self.uploads} of them files>"


class BareText(NamedTuple):
    """A body that is the text of one field, without a form."""

    content_type: str
    content: bytes

    @property
    def uploads(self) -> int:
        """The number of files: none."""
        return 0

    @classmethod
    def of(cls, name: str, value: Any, content_type: str) -> BareText:
        """Return the field's text. Raises `TypeError`, and `ValueError` for text that UTF-8 cannot carry."""
        return cls(content_type, _encoded(name, value, content_type))


def _encoded(name: str, value: Any, media_type: str) -> bytes:
    """Encode a value by its media type: as JSON, or as text."""
    if media_type == "application/json":
        return encode_json(value)
    if not isinstance(value, str):
        raise TypeError(f"{name} is a string, not {type(value).__name__}")
    return _text(name, value)


_LISTS = frozenset({"image", "files"})  # fields that take several files: an iterator there yields files


class _IteratorFile:
    """A file whose content comes from an iterator, piece by piece."""

    def __init__(self, pieces: Iterator[Any]) -> None:
        self._pieces = pieces

    def read(self, size: int = -1) -> bytes:
        """Return the next piece, of any size; empty at the end."""
        for piece in self._pieces:
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise TypeError(f"the content of a file must be bytes, not {type(piece).__name__}")
            if piece:
                return bytes(cast("bytes", piece))
        return b""


class _UploadPart(NamedTuple):
    """Marks a value as a file, or as a field with a media type."""

    value: Any
    is_file: bool = True


def _is_upload(item: Any) -> bool:
    return isinstance(item, _UploadPart)


# -------------------------------------------------------------------------------------------------- kinds of values


def _is_content(value: Any) -> bool:
    if isinstance(value, (bytes, bytearray, memoryview, os.PathLike)):
        return True
    return not isinstance(value, (type, BaseModel)) and callable(getattr(value, "read", None))


def _is_named(value: Any) -> bool:
    """Whether a value is a tuple ``(name, content[, media type[, header fields]])``; its content may be text."""
    if not isinstance(value, tuple):
        return False
    items = cast("Any", value)
    return 2 <= len(items) <= 4 and isinstance(items[0], (str, type(None))) and not isinstance(items[1], tuple)


def is_file(value: Any) -> bool:
    """Whether a value can only be a file: bytes, a path object, an object with `read`, or a tuple with one of these."""
    if _is_named(value):
        return _is_content(value[1])
    return _is_content(value) or callable(getattr(value, "as_file", None))


def _flat(name: str, value: Any, file_field: bool) -> Iterator[tuple[str, Any]]:
    """Yield a field as pairs of a bracketed name and one value, without `None` and omitted values."""
    if value is None or is_omitted(value):
        return
    if is_file(value) or (file_field and _is_named(value)):
        yield name, _UploadPart(value)
    elif isinstance(value, BaseModel):
        yield from _flat(name, value.to_dict(mode="json"), file_field=False)
    elif isinstance(value, Mapping):
        for key, item in cast("Mapping[str, Any]", value).items():
            yield from _flat(f"{name}[{key}]", item, file_field=False)
    elif isinstance(value, Iterable) and not isinstance(value, str):
        items: Any = cast("Any", value)
        if file_field and hasattr(items, "__next__") and name not in _LISTS:
            first: Any = next(items, b"")
            items = chain((first,), items)
            if isinstance(first, (bytes, bytearray, memoryview)):
                yield name, _UploadPart(_IteratorFile(items))
                return
        for item in items:
            yield from _flat(f"{name}[]", item, file_field)
    elif file_field:
        raise TypeError(_no_file(name, value))
    else:
        yield name, value


def _no_file(name: str, value: Any) -> str:
    if isinstance(value, str):
        return f"{name}: a str is not a file; pass pathlib.Path(...) for a file's path, or the content as bytes"
    return (
        f"{name}: {type(value).__name__} is not a file; pass bytes, a pathlib.Path, a file opened in binary mode, or a "
        "tuple (name, content, media type)"
    )


def _text(name: str, value: Any) -> bytes:
    if isinstance(value, enum.Enum):
        value = value.value
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name}: {value!r} cannot be sent")
    if isinstance(value, datetime.date):
        value = value.isoformat()
    if not isinstance(value, (str, int, float)):
        raise TypeError(f"{name}: {type(value).__name__} objects cannot be sent in a form")
    try:
        return str(value).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name}: the text holds half of a surrogate pair, which UTF-8 cannot carry") from None


# -------------------------------------------------------------------------------------------------- parts


def _head(boundary: str, name: str, file_name: str | None, media_type: str | None, fields: str = "") -> bytes:
    line = f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"'
    if file_name:
        line += f'; filename="{_quoted(file_name)}"'
    line += f"\r\n{fields}"
    if media_type:
        line += f"Content-Type: {media_type}\r\n"
    line += "\r\n"
    # File names are bytes on Unix: those that are not UTF-8 are sent unchanged.
    try:
        return line.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return line.encode("utf-8", "replace")


def _quoted(text: str) -> str:
    return _UNQUOTABLE.sub(lambda match: "\\\\" if match[0] == "\\" else f"%{ord(match[0]):02X}", text)


def _file_part(boundary: str, name: str, upload: _UploadPart) -> Part:
    value = upload.value
    if callable(getattr(value, "as_file", None)):
        value = value.as_file()
    if not _is_named(value):
        content = _content(name, value)
        naming = _Naming(boundary, name, _name_of(content))
        return _part(naming, content)
    items: tuple[Any, ...] = (*value, None, None)
    media_type, more = items[2], items[3]
    fields = _fields(name, cast("Mapping[str, str]", more or {}))
    typed = any(key.lower() == "content-type" for key in more or ())
    if media_type is not None:
        media_type = _checked(name, media_type)
    content = _content(name, items[1])
    if not upload.is_file or (not items[0] and isinstance(items[1], str)):  # text without a name is not a file
        return Part(_head(boundary, name, None, media_type, fields), content)
    file_name = items[0] or _name_of(content)
    return _part(
        _Naming(boundary, name, file_name, media_type, named=bool(items[0]), fields=fields, typed=typed), content
    )


class _Naming(NamedTuple):
    """Makes the header of a file's part: its first bytes determine name and type if nothing else does.

    Servers of speech to text look only at the extension of the name, and refuse files without a known one.
    """

    boundary: str
    name: str
    file_name: str
    media_type: str | None = None
    named: bool = False  # the caller chose the file's name, which is not changed
    fields: str = ""
    typed: bool = False  # the type is among the fields

    @property
    def is_decided(self) -> bool:
        """Whether the header does not depend on the first bytes."""
        return self._guess() is not None and (self.named or bool(os.path.splitext(self.file_name)[1]))

    def _guess(self) -> str | None:
        return self.media_type or _guess(self.file_name) or ("" if self.typed else None)

    def __call__(self, first: bytes) -> bytes:
        """Return the header for a file that begins with these bytes."""
        media_type = self._guess()
        if media_type is None:
            media_type = media_type_of(first[:SNIFFED]) or _ANY_TYPE
        file_name = self.file_name
        if not self.named and not os.path.splitext(file_name)[1] and (ending := extension(media_type)):
            file_name = f"{file_name}.{ending}"
        return _head(self.boundary, self.name, file_name, None if self.typed else media_type, self.fields)


def _part(naming: _Naming, content: bytes | str | IO[bytes]) -> Part:
    if isinstance(content, bytes):
        return Part(naming(content), content)
    return Part(naming(b""), content, None if naming.is_decided else naming.__call__)


def _content(name: str, value: Any) -> bytes | str | IO[bytes]:
    """Return the content of a part, or its source. Raises `TypeError` and `ValueError` for one that cannot be read."""
    if isinstance(value, str):
        return value.encode()  # in a tuple: text, not a path
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(cast("bytes", value))
    if isinstance(value, os.PathLike):
        path = os.fsdecode(cast("os.PathLike[str]", value))
        if not path:
            raise ValueError(f"{name}: the path is empty")
        return path
    if hasattr(value, "as_file"):
        return _content(name, value.as_file()[1])
    read = getattr(value, "read", None)
    if not callable(read):
        raise TypeError(_no_file(name, value))
    if hasattr(value, "encoding"):
        raise TypeError(f"{name}: the file is open in text mode; open it in binary mode ('rb')")
    if _is_async(read):
        raise TypeError(f"{name}: an asynchronous file cannot be sent; pass its path, or what it reads as bytes")
    return cast("IO[bytes]", value)


def _is_async(read: Any) -> bool:
    import inspect

    return inspect.iscoroutinefunction(read)


def _name_of(content: bytes | str | IO[bytes]) -> str:
    name: Any = content if isinstance(content, str) else getattr(content, "name", None)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    # The name of a file opened from a descriptor is a number, that of a spooled temporary file is None.
    return (os.path.basename(name) if isinstance(name, str) else "") or UNNAMED


def _guess(file_name: str) -> str | None:
    import mimetypes

    return mimetypes.guess_type(file_name)[0]


def _fields(name: str, fields: Mapping[str, str]) -> str:
    lines: list[str] = []
    for key, value in fields.items():
        if not is_token(key):
            raise ValueError(f"{name}: {key!r} is not a valid name of a header field (RFC 9110, section 5.1)")
        if key.lower() in _OURS:
            raise ValueError(f"{name}: {key!r} is set by the library and cannot be given")
        lines.append(f"{key}: {_checked(name, value)}\r\n")
    return "".join(lines)


def _checked(name: str, text: str) -> str:
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
        raise TypeError(f"{name}: a header field of a part must be a string, not {type(text).__name__}")
    if _BAD_FIELD.search(text):
        raise ValueError(f"{name}: a header field of a part contains a control character")
    return text.strip(" \t")
