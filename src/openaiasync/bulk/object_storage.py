"""Inputs and folders in object stores, named by URLs such as ``s3://bucket/in.jsonl``, through `fsspec`.

Any file system that `fsspec` knows can be used (``s3://`` needs the package s3fs, ``gs://`` gcsfs, ``az://`` adlfs).
Credentials and endpoints come from the environment, as these packages document; a URL must not contain a password. All
functions block. They raise `OSError` where the store refuses, `ConfigurationError` where a package is missing.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import os
import re
from collections.abc import Generator
from typing import IO, Any, NamedTuple
from urllib.parse import urlsplit

from ..core.model.secrets import redacted
from ..errors import ConfigurationError
from ..installation import install_command
from ..storage.disk import open_regular

__all__ = ["InputState", "ObjectFolder", "copy_range", "input_state", "is_url", "open_input", "place_of"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # more than one letter: C:// is a drive of Windows
_BLOCK = 1 << 20  # bytes that are requested at once
# Names under which file systems of fsspec report a version, the most precise first.
_VERSIONS = (
    "ETag",
    "etag",
    "md5Hash",
    "crc32c",
    "content_settings",
    "LastModified",
    "last_modified",
    "mtime",
    "created",
)
# Stores without folders, where making one may make a bucket.
_BUCKETS = frozenset({"abfs", "abfss", "az", "gcs", "gs", "oss", "s3", "s3a"})
_USERINFO = re.compile(r"//[^/@\s]*@")  # in a URL that an error quotes


class InputState(NamedTuple):
    """The size and version of an input, by which a change is detected."""

    size: int
    modified: int
    """Nanoseconds of a file's last modification; of an object, a number that stands for its version."""


def is_url(path: str) -> bool:
    """Return whether this names an object in a store, and not a path."""
    return _URL.match(path) is not None


def place_of(path: str | os.PathLike[str], *, follow: bool = False) -> str:
    """Return a URL unchanged, a path as an absolute one, with its links followed if `follow`.

    Raises `ConfigurationError` for a URL with a user, a password or a signature, which would be stored with the job.
    """
    name = os.fspath(path)
    if not is_url(name):
        return os.path.realpath(name) if follow else os.path.abspath(name)
    if "@" in urlsplit(name).netloc:
        raise ConfigurationError(
            "the URL of an input or output must not contain a user or password: they are read from the environment"
        )
    if redacted(name) != name:  # a link that was signed for a while
        raise ConfigurationError(
            "the URL of an input or output must not contain a key or signature, which would be stored with the job: "
            "download the file, or name the object and set the store's credentials in the environment"
        )
    return name


def open_input(path: str) -> IO[bytes] | Any:
    """Open a file or object for reading in any order."""
    if not is_url(path):
        return open_regular(path)
    system, name = _system_of(path)
    with _translated(path):
        return system.open(name, "rb", block_size=_BLOCK, cache_type="readahead")


def input_state(path: str) -> InputState:
    """Return the size and version of a file or object."""
    if not is_url(path):
        about = os.stat(path)
        return InputState(about.st_size, about.st_mtime_ns)
    system, name = _system_of(path)
    with _translated(path):
        system.invalidate_cache()
        found: dict[str, Any] = system.info(name)
    if found.get("type") == "directory":
        raise IsADirectoryError(f"{path} is a folder")
    known = next((found[one] for one in _VERSIONS if found.get(one)), None)
    version = hashlib.blake2b(str(known).encode(), digest_size=7).digest()
    return InputState(int(found["size"]), int.from_bytes(version, "big"))


def copy_range(path: str, target: IO[bytes], start: int, end: int) -> None:
    """Copy the bytes from `start` to `end` of an input into an open file."""
    with open_input(path) as file:
        file.seek(start)
        while start < end and (block := file.read(min(_BLOCK, end - start))):
            target.write(block)
            start += len(block)
    if start < end:
        raise OSError(f"{path} became shorter while it was read: {end - start:,} bytes are missing")


class ObjectFolder:
    """A folder of objects, which are written as a whole and never changed."""

    def __init__(self, url: str) -> None:
        self.url: str = url.rstrip("/")
        self._system, self._path = _system_of(self.url)
        self._has_folders = url.partition("://")[0] not in _BUCKETS

    def names(self, below: str = "") -> list[str]:
        """Return the names of all objects, sorted, with those in folders; `below` is the folder to list."""
        place = f"{self._path}/{below}".rstrip("/")
        with _translated(self.url):
            self._system.invalidate_cache()
            try:
                found: list[str] = self._system.find(place)
            except FileNotFoundError:
                return []
        return sorted(name[len(self._path) :].lstrip("/") for name in found)

    def has(self, name: str) -> bool:
        """Return whether there is an object of this name."""
        with _translated(self.url):
            self._system.invalidate_cache()
            return bool(self._system.exists(f"{self._path}/{name}"))

    def read(self, name: str) -> bytes:
        """Return the content of an object. Raises `FileNotFoundError`."""
        with _translated(self.url):
            data: bytes = self._system.cat_file(f"{self._path}/{name}")
        return data

    def read_all(self, names: list[str]) -> dict[str, bytes]:
        """Return the contents of several objects, requested at once."""
        if not names:
            return {}
        with _translated(self.url):
            found: dict[str, bytes] = self._system.cat([f"{self._path}/{name}" for name in names])
        return {name[len(self._path) :].lstrip("/"): data for name, data in found.items()}

    def write(self, name: str, data: bytes, *, exclusive: bool = False) -> None:
        """Write an object; with `exclusive` raise `FileExistsError` if there is one of this name with other bytes.

        Equal bytes are those of an earlier attempt whose response was lost. Where a store cannot create an object
        conditionally, its existence is checked first.
        """
        place = f"{self._path}/{name}"
        with _translated(self.url):
            if self._has_folders:
                self._system.makedirs(os.path.dirname(place), exist_ok=True)
            if not exclusive:
                self._system.pipe_file(place, data)
                return
            try:
                self._system.pipe_file(place, data, mode="create")
            except (NotImplementedError, TypeError):
                if self._system.exists(place):
                    raise FileExistsError(f"{self.url}/{name} exists") from None
                self._system.pipe_file(place, data)
            except OSError as error:
                if not isinstance(error, FileExistsError) and error.errno != errno.EINVAL:
                    raise
                if not self._system.exists(place):
                    raise
                if self.read(name) != data:
                    raise FileExistsError(f"{self.url}/{name} exists") from None

    def upload(self, path: str, name: str) -> None:
        """Write a local file as an object, which becomes visible as a whole."""
        with _translated(self.url):
            self._system.put_file(path, f"{self._path}/{name}")

    def remove(self, names: list[str]) -> None:
        """Remove objects, if they exist."""
        paths = [f"{self._path}/{name}" for name in names]
        with _translated(self.url):
            try:
                if paths:
                    self._system.rm(paths)
            except FileNotFoundError:  # of one of them: the others may still exist
                for path in paths:
                    with contextlib.suppress(FileNotFoundError):
                        self._system.rm_file(path)


def _system_of(url: str) -> tuple[Any, str]:
    """Return the file system of a URL, and the path in it."""
    try:
        fsspec: Any = importlib.import_module("fsspec")  # which has no types
    except ImportError:
        raise ConfigurationError(f"{url} needs the package fsspec: {install_command('fsspec')}") from None
    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ConfigurationError(f"{url} cannot be used: {error}") from None
    except ValueError as error:
        raise ConfigurationError(f"{url} is not a URL that fsspec knows: {error}") from None
    return system, str(path)


@contextlib.contextmanager
def _translated(url: str) -> Generator[None, None, None]:
    """Convert the errors of stores, which are of many classes, to `OSError` with the store's words."""
    try:
        yield
    except (OSError, NotImplementedError):
        raise
    except Exception as error:
        text = _USERINFO.sub("//…@", str(error))
        raise OSError(f"{url}: {type(error).__name__}: {text}") from error
