"""Token providers: proofs of a workload's identity from Kubernetes, Azure and Google.

A provider is a dict with the type of its tokens and a function, async or not, that returns one. Write your own for
other platforms.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict
from urllib.parse import urlsplit

from ..core.codec.encode import encode_query
from ..core.codec.endpoint import Endpoint, Request
from ..core.model.meta import ResponseInfo
from ..core.model.plain import parse_json
from ..engine.callback import ask
from ..engine.config import BaseURL, CallConfig
from ..engine.engine import Engine
from ..engine.upstream import Connections
from ..errors import APIStatusError, OpenAIError
from ..storage.disk import read_file
from ..transport.base import Transport
from .token_exchange import AGENT, MOST, SubjectTokenProviderError, fetch_small

__all__ = [
    "SubjectTokenProvider",
    "azure_managed_identity_token_provider",
    "gcp_id_token_provider",
    "k8s_service_account_token_provider",
]


_LARGEST_TOKEN = 1 << 20  # bytes


class SubjectTokenProvider(TypedDict):
    """`token_type` is what `get_token` returns: a JWT (``"jwt"``) or an OpenID Connect ID token (``"id"``)."""

    token_type: Literal["jwt", "id"]
    get_token: Callable[[], str | Awaitable[str]]


def k8s_service_account_token_provider(
    token_file_path: str | os.PathLike[str] = "/var/run/secrets/kubernetes.io/serviceaccount/token",
) -> SubjectTokenProvider:
    """Return a provider of the service account token that Kubernetes projects into a file, read for each exchange.

    Its `get_token` raises `SubjectTokenProviderError` for a file that does not exist, cannot be read, or is empty.
    """
    path = Path(token_file_path)

    async def get_token() -> str:
        try:
            token = (await ask(lambda: read_file(path, _LARGEST_TOKEN).decode())).strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
        else:
            if token:
                return token
            reason = "it is empty"
        raise SubjectTokenProviderError(f"the token's file {path} could not be read: {reason}")

    return {"token_type": "jwt", "get_token": get_token}


def azure_managed_identity_token_provider(
    resource: str = "https://management.azure.com/",
    *,
    object_id: str | None = None,
    client_id: str | None = None,
    msi_res_id: str | None = None,
    api_version: str = "2018-02-01",
    timeout: float = 10.0,
    http_client: Any = None,
    metadata_url: str = "http://169.254.169.254",
) -> SubjectTokenProvider:
    """Return a provider of the token of an Azure machine's managed identity, from its metadata server.

    `object_id`, `client_id` or `msi_res_id` selects one of several identities. `timeout` is in seconds, for all
    attempts. The server is asked directly, without proxies, or through `http_client`, an ``httpx2.AsyncClient``. Its
    `get_token` raises `SubjectTokenProviderError`.
    """
    named = {"object_id": object_id, "client_id": client_id, "msi_res_id": msi_res_id}
    query = {"api-version": api_version, "resource": resource, **named}
    url = f"{metadata_url.rstrip('/')}/metadata/identity/oauth2/token?" + encode_query(query.items())
    server = _MetadataServer("Azure's metadata server", url, {"Metadata": "true"}, "an access_token", _access_token)
    return {"token_type": "jwt", "get_token": partial(_fetch_token, server, timeout, http_client)}


def gcp_id_token_provider(
    audience: str = "https://api.openai.com/v1",
    *,
    timeout: float = 10.0,
    http_client: Any = None,
    metadata_url: str = "http://metadata.google.internal",
) -> SubjectTokenProvider:
    """Return a provider of the ID token of a Google machine's service account, from its metadata server.

    `audience` is the token's audience; `timeout` is in seconds, for all attempts. The server is asked directly,
    without proxies, or through `http_client`, an ``httpx2.AsyncClient``. Its `get_token` raises
    `SubjectTokenProviderError`.
    """
    path = "/computeMetadata/v1/instance/service-accounts/default/identity"
    url = f"{metadata_url.rstrip('/')}{path}?" + encode_query([("audience", audience)])
    server = _MetadataServer("Google's metadata server", url, {"Metadata-Flavor": "Google"}, "a token", _text)
    return {"token_type": "id", "get_token": partial(_fetch_token, server, timeout, http_client)}


def _access_token(body: bytes) -> str:
    try:
        fields: Any = parse_json(body)
    except (ValueError, RecursionError):
        return ""
    token = fields.get("access_token") if isinstance(fields, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return token if isinstance(token, str) else ""


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace").strip()


class _MetadataServer(NamedTuple):
    """A request to a machine's metadata server, and how its answer is read: ``""`` if it has no token."""

    name: str
    url: str
    fields: dict[str, str]
    token: str
    read: Callable[[bytes], str]


async def _fetch_token(server: _MetadataServer, timeout: float, http_client: Any) -> str:
    """Return the token in a metadata server's answer. Raises `SubjectTokenProviderError`."""
    parts = urlsplit(server.url)
    config = CallConfig(
        base=BaseURL(f"{parts.scheme}://{parts.netloc}"),
        fields=AGENT,
        connect_timeout=timeout,
        deadline=timeout,
        max_redirects=0,
        max_body=MOST,
    )
    shared = Connections(None, lambda: _transport(http_client))
    row = Endpoint("identity.metadata", "GET", parts.path, codec="bytes")
    request = Request(row, f"{parts.path}?{parts.query}", None)
    request.headers = server.fields
    try:
        meta, body = await fetch_small(Engine(config, shared), request)
        if token := server.read(body):
            return token
        response = ResponseInfo(meta.status, meta.headers, meta.request)
        failure = SubjectTokenProviderError(f"{server.name} answered without {server.token}", response=response)
    except APIStatusError as refused:
        response = ResponseInfo(refused.status_code, refused.response.headers, refused.request)
        failure = SubjectTokenProviderError(
            f"{server.name} answered with status {refused.status_code}", response=response
        )
    except OpenAIError as error:
        failure = SubjectTokenProviderError(f"{server.name} could not be reached: {error}")
    finally:
        if http_client is None:
            await shared.aclose()
    raise failure


def _transport(http_client: Any) -> Transport:
    if http_client is not None:
        from ..transport.httpx2 import HTTPXTransport

        return HTTPXTransport(http_client)
    from ..transport.tcp import TcpSettings, TcpTransport

    return TcpTransport(TcpSettings(trust_env=False))  # the address is link-local, which no proxy can reach
