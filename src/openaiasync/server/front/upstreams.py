"""The servers behind a front: the models and the health of each, and the engine that chooses among them.

A request goes to the server with the least expected wait among those that have its model (`engine/balance.py`). What a
server has is learned from its list of models, and from refusals; where nothing is known, any server may be tried.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec.structs import replace

from ...core.codec.endpoint import Request
from ...core.model.secrets import Secret
from ...core.policy.limits import Limits
from ...endpoints import ENDPOINTS
from ...engine.config import BaseURL, CallConfig
from ...engine.engine import Engine
from ...engine.upstream import Connections
from ...errors import ConfigurationError, OpenAIError
from ...transport.base import Transport
from ...transport.tcp import TcpTransport

__all__ = ["FrontUpstream", "UpstreamGroup", "UpstreamMember"]

_log = logging.getLogger("openaiasync.server")
_LIST_TIMEOUT: Final = 10.0  # seconds for a server to list its models
_LIST_AGE: Final = 60.0  # seconds after which a list is read again in the background
_FRESH: Final = 1.0  # seconds after which a list is read again for a client
_MAX_OWNERS: Final = 50_000
_LONGEST_NAME: Final = 200  # characters of a model's name that are remembered
_MAX_LACKING: Final = 10_000
_MAX_CHOSEN: Final = 1_000


@dataclass(frozen=True)
class FrontUpstream:
    """A server behind a front.

    Args:
        url: the base URL of its API, such as ``http://localhost:8000/v1``.
        api_key: the key that the front sends to it, in place of the client's; `None`: no key.
        name: its name in metrics and error messages (default: host and port).
    """

    url: str
    api_key: str | None = None
    name: str = ""

    def __repr__(self) -> str:
        try:
            shown = str(BaseURL(self.url))  # without its secrets
        except ConfigurationError:
            shown = "invalid"
        return f"FrontUpstream({shown!r})"


class _Model(msgspec.Struct):
    id: str


class _ModelList(msgspec.Struct):
    data: list[msgspec.Raw]


_model = msgspec.json.Decoder(_Model)
_model_list = msgspec.json.Decoder(_ModelList)


class UpstreamMember:
    """One server of the group: its configuration, its models, and its counters."""

    def __init__(self, given: FrontUpstream, defaults: CallConfig) -> None:
        base = _base_of(given.url)
        key = None if given.api_key is None else Secret(given.api_key)
        self.config: CallConfig = replace(defaults, base=base, key=key)
        self.name: str = given.name or base.root.partition("://")[2]
        self.models: dict[str, bytes] | None = None
        """The model objects that it lists, by id; `None` while the list is not known."""
        self.lacking: set[str] = set()
        """The first characters of the models that it refused since the list was last read."""
        self.statuses: Counter[int] = Counter()
        """Responses by status; 0 for requests without a response."""
        self.pinned: int = 0
        """Requests in flight that were not balanced."""
        self.input_tokens: int = 0
        self.output_tokens: int = 0

    def may_have(self, model: str) -> bool:
        """Return whether the server may have a model, as far as is known."""
        return not self.lacks(model) and (self.models is None or model in self.models)

    def lacks(self, model: str) -> bool:
        """Return whether the server refused a model since its list was last read."""
        return model[:_LONGEST_NAME] in self.lacking

    @property
    def has_key(self) -> bool:
        """Whether the front has credentials for it."""
        return self.config.key is not None or self.config.base.userinfo is not None


class UpstreamGroup:
    """All servers of a front, over one set of connections and one `Limits`."""

    def __init__(
        self,
        given: Sequence[FrontUpstream | str],
        defaults: CallConfig,
        limits: Limits | None,
        transport: Callable[[], Transport] | None,
        via: str = "",
    ) -> None:
        """Create the group. Raises `ConfigurationError` for an invalid URL, or without any."""
        if not given:
            raise ConfigurationError("a front needs at least one upstream")
        whole = [FrontUpstream(one) if isinstance(one, str) else one for one in given]
        self.members: list[UpstreamMember] = [UpstreamMember(one, defaults) for one in whole]
        names = Counter(member.name for member in self.members)
        for number, member in enumerate(self.members):
            if names[member.name] > 1:
                member.name = f"{member.name}#{number}"
        self.limits: Limits = limits if limits is not None else Limits()
        self._via = via
        self._transport: Callable[[], Transport] = transport or TcpTransport
        self._engines: dict[tuple[tuple[int, ...], bool], Engine] = {}
        self._chosen: dict[tuple[str | int | None, bool], Engine] = {}  # by model or owner, until something is learned
        self._members: dict[Engine, UpstreamMember] = {}
        self._owners: OrderedDict[str, int] = OrderedDict()
        self._listed_at = float("-inf")
        self._reading: asyncio.Task[list[OpenAIError]] | None = None
        self._errors: list[OpenAIError] = []
        self.shared: Connections = self._connections()

    def _connections(self) -> Connections:
        return Connections(self.limits.max_in_flight, self._transport, self.limits)

    @property
    def several(self) -> bool:
        """Whether there is more than one server."""
        return len(self.members) > 1

    def base_urls(self) -> list[str]:
        """Return the base URLs of the servers, without secrets."""
        return [str(member.config.base) for member in self.members]

    async def aclose(self) -> None:
        """Close all connections. The group opens new ones when it is used again."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])
        shared, self.shared = self.shared, self._connections()
        self._engines.clear()
        self._chosen.clear()
        self._members.clear()
        await shared.aclose()

    # ---------------------------------------------------------------- choice

    def engine(self, model: str | None, owner: int | None = None, *, above: bool = False) -> Engine:
        """Return the engine for a request: with the servers that may have the model, or with one `owner` alone.

        `above`: the path is not below the API's ``/v1``, but beside it.
        """
        key = model if owner is None else owner
        engine = self._chosen.get((key, above))
        if engine is None:
            if owner is not None:
                chosen: tuple[int, ...] = (owner,)
            else:
                chosen = tuple(range(len(self.members)))
                if model is not None and len(chosen) > 1:
                    chosen = self._having(model) or chosen
            engine = self._engines.get((chosen, above)) or self._engine_for(chosen, above)
            if len(self._chosen) >= _MAX_CHOSEN:  # the names of models come from clients
                self._chosen.clear()
            self._chosen[key, above] = engine
        return engine

    def _having(self, model: str) -> tuple[int, ...]:
        found = tuple(number for number, one in enumerate(self.members) if one.may_have(model))
        return found or tuple(number for number, one in enumerate(self.members) if not one.lacks(model))

    def _engine_for(self, chosen: tuple[int, ...], above: bool) -> Engine:
        engines: list[Engine] = []
        for number in chosen:
            config = self.members[number].config
            engine = Engine(config, self.shared)
            if above:
                upstream = engine.upstream  # one server, one state, whatever the path
                engine.configure(replace(config, base=_beside(config.base)))
                engine.upstream = upstream
            engines.append(engine)
            self._members[engine] = self.members[number]
        for engine in engines:
            engine.others = tuple(one for one in engines if one is not engine)
        self._engines[chosen, above] = engines[0]
        return engines[0]

    def member_of(self, engine: Engine) -> UpstreamMember:
        """Return the server that an engine sends to."""
        return self._members[engine]

    def in_flight(self, member: UpstreamMember) -> int:
        """Return the number of requests in flight to a server."""
        return member.pinned + self.shared.upstream(member.config.base).health.in_flight

    def forget_heads(self) -> None:
        """Drop the requests that the engines have prepared. Calls in flight keep theirs."""
        for engine in self._members:
            upstream = engine.upstream
            engine.configure(engine.config)
            engine.upstream = upstream

    # ---------------------------------------------------------------- models

    def lacks(self, member: UpstreamMember, model: str) -> bool:
        """Record that a server refused a model as unknown. Return whether another server may have it."""
        if len(member.lacking) >= _MAX_LACKING:
            member.lacking.clear()
        member.lacking.add(model[:_LONGEST_NAME])
        self._chosen.clear()
        return not all(one.lacks(model) for one in self.members)

    def refresh_soon(self) -> None:
        """Read the lists of models in the background if they are old."""
        if self.several and self._reading is None and time.monotonic() - self._listed_at > _LIST_AGE:
            self._start_reading()

    async def models(self, fields: Mapping[str, str] | None) -> list[OpenAIError]:
        """Read the lists of all servers for a client. Return the errors of those that failed, whose last list stays.

        `fields` are sent with the requests. Without any, clients that ask at the same time share one reading. A client
        that comes through another front does not: two fronts, each an upstream of the other, would wait for each other.
        """
        if fields is not None:
            return await self._read_all(fields)
        if time.monotonic() - self._listed_at > _FRESH and self._reading is None:
            self._start_reading()
        return self._errors if self._reading is None else await asyncio.shield(self._reading)

    def _start_reading(self) -> None:
        self._reading = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> list[OpenAIError]:
        try:
            self._errors = await self._read_all({})
            return self._errors
        finally:
            self._reading = None

    async def _read_all(self, fields: Mapping[str, str]) -> list[OpenAIError]:
        self._listed_at = time.monotonic()
        headers = {**fields, "via": ", ".join(filter(None, (fields.get("via"), self._via)))}
        found = await asyncio.gather(
            *(self._read_models(member, headers) for member in self.members), return_exceptions=True
        )
        errors: list[OpenAIError] = []
        for member, error in zip(self.members, found, strict=True):
            if isinstance(error, OpenAIError):
                _log.info("The models of %s are not known: %s", member.name, error)
                errors.append(error)
            elif isinstance(error, BaseException):
                raise error
        return errors

    async def _read_models(self, member: UpstreamMember, headers: dict[str, str]) -> None:
        endpoint = ENDPOINTS["models.list"]
        request = Request(endpoint, endpoint.path)
        request.timeout = _LIST_TIMEOUT
        request.has_clocks = True
        request.max_retries = 0
        request.headers = headers
        beside = Engine(member.config, self.shared.aside())
        _, body = await beside.fetch(request)
        member.lacking.clear()
        self._chosen.clear()
        try:
            models = {_model.decode(one).id: bytes(one) for one in _model_list.decode(body).data}
        except (ValueError, RecursionError):
            return  # some servers have no list; which models they have stays unknown
        member.models = models or None
        self._chosen.clear()

    def model_list(self) -> bytes:
        """Return the list of all models, each as the first server that has it describes it."""
        merged: dict[str, bytes] = {}
        for member in self.members:
            for name, model in (member.models or {}).items():
                merged.setdefault(name, model)
        return b'{"object":"list","data":[%b]}' % b",".join(merged.values())

    # ---------------------------------------------------------------- stored responses

    def own(self, identifier: str, member: UpstreamMember) -> None:
        """Remember which server keeps a stored response."""
        self._owners[identifier] = self.members.index(member)
        if len(self._owners) > _MAX_OWNERS:
            self._owners.popitem(last=False)

    def owner(self, identifier: object) -> int | None:
        """Return the number of the server that keeps a stored response; `None` if it is not known."""
        return self._owners.get(identifier) if isinstance(identifier, str) else None


def _base_of(url: str) -> BaseURL:
    """Return an upstream's base URL. Raises `ConfigurationError`, without quoting a URL that may hold a password."""
    try:
        return BaseURL(url)
    except ConfigurationError:
        shown = f", not {url!r}" if "@" not in url and "?" not in url else ""
        raise ConfigurationError(
            f"an upstream is an absolute http or https URL, as http://gpu1:8000/v1{shown}"
        ) from None


def _beside(base: BaseURL) -> BaseURL:
    """Return the base of paths that are not below ``/v1``: vLLM's ``/tokenize``, llama.cpp's ``/slots``."""
    made = BaseURL(base.root)
    made.path = base.path.removesuffix("/v1")
    made.query, made.userinfo = base.query, base.userinfo
    return made
