"""Fetching what an answer links to: a plain GET with nothing of the caller's in it, under the call rules."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin, urlsplit

from ..core.codec.endpoint import Endpoint, Request
from ..core.model.media import Images
from .config import BaseURL

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["LinkDownloader", "attach", "needs_nothing"]

_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"


class LinkDownloader:
    """Fetches links for one client: with its connections, limits and clocks, without its key and header fields."""

    def __init__(self, calls: Engine) -> None:
        self._calls = calls

    async def __call__(self, url: str) -> bytes:
        """The body behind a link; one without a host is meant below the API's own. Redirects are followed.

        Raises `ValueError` for what is no http URL, and `OpenAIError`.
        """
        config = self._calls.config
        try:
            parts = urlsplit(urljoin(f"{config.base.root}{config.base.path}/", quote(url, safe=_URL_SAFE)))
            base = BaseURL(f"{parts.scheme}://{parts.netloc}")
        except ValueError:
            raise ValueError("the server's link to the image is no http URL") from None
        base.userinfo = None
        agent = tuple(field for field in config.fields if field[0] == "User-Agent")
        plain = replace(
            config,
            base=base,
            key=None,
            admin_key=None,
            fields=agent,
            secret_fields=(),
            count_retries=False,
            observers=(),  # they may add header fields
        )
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        row = Endpoint("images.fetch", "GET", parts.path or "/", codec="bytes")
        _, body = await self._calls.under(plain).fetch(Request(row, target))
        return body

    def __repr__(self) -> str:
        return "<Fetcher>"


def attach(calls: Engine, answer: object) -> None:
    """Let images in an answer fetch what their links lead to through the client whose answer it is."""
    if isinstance(answer, Images):
        answer.attach(LinkDownloader(calls))


def needs_nothing(kind: object) -> bool:
    """Whether `attach` has nothing to do with answers of this type."""
    return not (isinstance(kind, type) and issubclass(kind, Images))
