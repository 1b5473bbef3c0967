"""The OpenAI-compatible API as a plain ASGI 3 callable, over any models: `App([DemoChat()], api_key="secret")`."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Sequence
from typing import Any

from .asgi import Receive, Scope, Send
from .context import ClientLeft, RequestContext
from .errors import HTTPError
from .files import FileStore
from .images import PICTURES, PictureStore
from .models import (
    DemoChat,
    DemoComplete,
    DemoEmbed,
    DemoImage,
    DemoSpeech,
    DemoTranscription,
    Model,
)
from .operations import routes
from .rate_limit import SimulatedRateLimit
from .routes import Router
from .same_site import check_host, check_origin
from .store import CompletionStore
from .validation import Fields, check_fields

__all__ = ["App", "demo_app"]

_log = logging.getLogger("openaiasync.server")
_OPEN_PATHS = frozenset({b"/health", b"/v1/health"})
_OPEN_FOLDERS = (PICTURES.encode(), b"/v1" + PICTURES.encode())  # what is below has names that nobody can guess


class App:
    """Answers for its models. An ASGI application: serve it with `serve`, or with any ASGI server.

    `api_key`: when given, every call but those of ``/health`` and of links to pictures must carry it
    (``Authorization: Bearer ...``), else 401.
    `strict`: refuse unknown request fields with 400, as OpenAI does; `False` ignores them. `max_body` in bytes (413
    above it). `send_timeout` in seconds: a client that takes nothing for so long is given up. `allowed_hosts`: names
    with a dot that the server answers to where it is reached over the loopback interface, as behind a proxy on the same
    machine; others are refused with 403 there (DNS rebinding). So are requests that change something and come from a
    page of another site, unless there is an `api_key`, which such a page does not have.
    Raises `ValueError` when two models have one id.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        api_key: str | None = None,
        strict: bool = True,
        max_body: int = 32 * 1024 * 1024,
        send_timeout: float = 30.0,
        allowed_hosts: Sequence[str] = (),
    ) -> None:
        self.models: dict[str, Model] = {model.id: model for model in models}
        if len(self.models) != len(models):
            raise ValueError("two models have the same id")
        self.store: CompletionStore = CompletionStore()
        self.files: FileStore = FileStore()
        self.pictures: PictureStore = PictureStore()
        self.allowance: SimulatedRateLimit = SimulatedRateLimit()
        self._key = None if api_key is None else f"Bearer {api_key}".encode()
        self._allowed_hosts = frozenset(name.lower() for name in allowed_hosts)
        self._strict = strict
        self._max_body = max_body
        self._send_timeout = send_timeout
        self._router = Router(routes())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface. Raises `ValueError` for anything but HTTP and the lifespan."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"only HTTP is served, not {scope['type']!r}")
        call = RequestContext(scope, receive, send, self._max_body, self._send_timeout)
        try:
            try:
                await self._answer(call)
            except HTTPError as refusal:
                await call.send_json(refusal.to_dict(), refusal.status, refusal.fields)
        except (ClientLeft, OSError):
            pass  # nobody is there to be told

    async def _answer(self, call: RequestContext) -> None:
        self._check_sender(call)
        path: bytes = call.scope.get("raw_path") or call.scope["path"].encode()
        if self._key is not None and path not in _OPEN_PATHS and not path.startswith(_OPEN_FOLDERS):
            self._check_key(call, self._key)
        handler, call.arguments = self._router.find(call.method, path)
        try:
            await handler(self, call)
        except (HTTPError, ClientLeft, OSError):
            raise
        except Exception:
            if call.answering:
                raise  # the ASGI server cuts the answer
            _log.exception("%s %s failed", call.method, path)
            raise HTTPError(500, "The server failed to answer this request.") from None

    def _check_sender(self, call: RequestContext) -> None:
        """Refuse what a web page may have sent without its user's knowledge."""
        host = call.header(b"host")
        check_host((call.scope.get("server") or (None,))[0], host, self._allowed_hosts)
        if self._key is None:
            check_origin(call.method, host, call.header(b"origin"), call.header(b"sec-fetch-site"))

    def _check_key(self, call: RequestContext, key: bytes) -> None:
        given = call.header(b"authorization")
        if given is None:
            message = "You did not give an API key: send it as 'Authorization: Bearer KEY'."
            raise HTTPError(401, message, code="invalid_api_key")
        if not hmac.compare_digest(given, key):
            raise HTTPError(401, "That is not this server's API key.", code="invalid_api_key")

    def model(self, name: str) -> Model:
        """The model of this name. Raises `HTTPError` (404) when there is none."""
        model = self.models.get(name)
        if model is None:
            raise HTTPError(404, f"There is no model {name!r} here.", param="model", code="model_not_found")
        return model

    def check(self, body: dict[str, Any], fields: Fields, *required: str) -> None:
        """Check a body by a table of fields. Raises `HTTPError` (400)."""
        check_fields(body, fields, required, strict=self._strict)


def demo_app(api_key: str | None = None, token_delay: float = 0.0) -> App:
    """The demo server's application, with all demo models: for chat (and images in it), completions, embeddings,
    images, speech and transcription; `token_delay` in seconds."""
    makers = (DemoChat, DemoComplete, DemoImage, DemoSpeech, DemoTranscription)
    models: list[Model] = [make(token_delay=token_delay) for make in makers]
    return App([*models, DemoEmbed()], api_key=api_key)


async def _live(receive: Receive, send: Send) -> None:
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
