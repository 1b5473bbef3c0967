"""List operations: await one for its first page, or iterate it for all items; further pages are fetched when needed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Self, TypeVar

from ..core.codec.endpoint import Endpoint
from ..core.codec.pages import (
    ConversationCursorShape,
    CursorShape,
    NextCursorShape,
    PageShape,
    TokenShape,
)
from ..lazy import resolve_annotations

if TYPE_CHECKING:
    from .engine import Engine

__all__ = [
    "AsyncConversationCursorPage",
    "AsyncCursorPage",
    "AsyncNextCursorPage",
    "AsyncPage",
    "AsyncTokenPage",
    "PageInfo",
    "Paginator",
]

T = TypeVar("T")
P = TypeVar("P")


class PageInfo(NamedTuple):
    """The parameters of the next page."""

    params: dict[str, str]


class _Turning(PageShape[T], Generic[T], kw_only=True):
    """The methods of every page. A page knows the call it came from."""

    def has_next_page(self) -> bool:
        """Return whether this page says that another one follows."""
        return self.next_params() is not None

    def next_page_info(self) -> PageInfo | None:
        """Return the parameters for the next page, or `None` on the last."""
        params = self.next_params()
        return None if params is None else PageInfo(params)

    async def get_next_page(self) -> Self:
        """Fetch the next page. Raises `RuntimeError` on the last: check `has_next_page` first."""
        more = self.next_params()
        if more is None:
            raise RuntimeError("there is no next page; check has_next_page() first")
        calls, endpoint, params = vars(self)["_source"]
        return await Paginator(calls, endpoint, {**params, **more})

    async def iter_pages(self) -> AsyncIterator[Self]:
        """Yield this page and all that follow. A server that names the same successor twice ends the iteration."""
        page, last = self, None
        while True:
            yield page
            more = page.next_params()
            if more is None or more == last:
                return
            last = more
            page = await page.get_next_page()

    async def __aiter__(self) -> AsyncIterator[T]:
        async for page in self.iter_pages():
            for item in page.data or ():
                yield item


class AsyncPage(_Turning[T], PageShape[T], Generic[T], kw_only=True):
    """A list without pages: `data`."""


class AsyncCursorPage(_Turning[T], CursorShape[T], Generic[T], kw_only=True):
    """A page whose successor begins after the id of its last item."""


class AsyncConversationCursorPage(_Turning[T], ConversationCursorShape[T], Generic[T], kw_only=True):
    """A page whose successor begins after its `last_id`."""


class AsyncNextCursorPage(_Turning[T], NextCursorShape[T], Generic[T], kw_only=True):
    """A page that names its successor in `next`."""


class AsyncTokenPage(_Turning[T], TokenShape[T], Generic[T], kw_only=True):
    """A page that names its successor in `next`, which is requested with ``page``."""


_PAGES: dict[str, Any] = {
    "Page": AsyncPage,
    "CursorPage": AsyncCursorPage,
    "ConversationCursorPage": AsyncConversationCursorPage,
    "NextCursorPage": AsyncNextCursorPage,
    "TokenPage": AsyncTokenPage,
}


class Paginator(Generic[T, P]):
    """A list operation that has not been sent: ``await`` it for the first page, ``async for`` over all items."""

    __slots__ = ("_calls", "_endpoint", "_params")

    def __init__(self, calls: Engine, endpoint: Endpoint, params: dict[str, Any]) -> None:
        endpoint.check(params)
        self._calls = calls
        self._endpoint = endpoint
        self._params = params

    def __await__(self) -> Generator[Any, None, P]:
        return self._fetch().__await__()

    async def _fetch(self) -> Any:
        calls, endpoint = self._calls, self._endpoint
        return turn(await calls.run(endpoint, self._params), calls, endpoint, self._params)

    async def __aiter__(self) -> AsyncIterator[T]:
        page: Any = await self._fetch()
        async for item in page:
            yield item

    def __repr__(self) -> str:
        return f"<Paginator {self._endpoint.name}>"


def turn(page: Any, calls: Engine, endpoint: Endpoint, params: dict[str, Any]) -> Any:
    """Return the page with the call that fetches the next one."""
    vars(page)["_source"] = (calls, endpoint, params)
    return page


def page_type(endpoint: Endpoint) -> Any:
    """Return the page of this endpoint's items, as a type to decode."""
    return _PAGES[endpoint.page][endpoint.load(endpoint.type)]


resolve_annotations(__name__)
