"""`AsyncAzureOpenAI`: OpenAI's models on Azure, with the deployment in the path and the key in a field of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Self, Unpack
from urllib.parse import quote

from .client import AsyncOpenAI
from .core.model.omitted import is_omitted, omit
from .core.policy.limits import Limits
from .engine.callback import ask
from .engine.config import (
    BaseURL,
    CallConfig,
    KeySource,
    Secret,
    unquoting,
)
from .errors import ConfigurationError
from .network import Network
from .settings import UNSET, ApiKey, Settings, env, key_from
from .variants import ClientOptions, takes

if TYPE_CHECKING:
    from .engine.hooks import AnswerHook, ErrorHook, RequestHook

__all__ = ["AsyncAzureADTokenProvider", "AsyncAzureOpenAI", "MutuallyExclusiveAuthError"]

AsyncAzureADTokenProvider = Callable[[], str | Awaitable[str]]

_DEPLOYED = frozenset(
    {
        "/audio/speech",
        "/audio/transcriptions",
        "/audio/translations",
        "/chat/completions",
        "/completions",
        "/embeddings",
        "/images/edits",
        "/images/generations",
    }
)


_NO_SEGMENTS = frozenset({"", ".", ".."})


class MutuallyExclusiveAuthError(ConfigurationError):
    """More than one of `api_key`, `azure_ad_token` and `azure_ad_token_provider` was given."""

    def __init__(self, message: str = "give one of api_key, azure_ad_token and azure_ad_token_provider") -> None:
        super().__init__(message)


@dataclasses.dataclass(frozen=True, slots=True)
class Deployments:
    """Where Azure has its operations: some below ``/deployments/{model}``, the others right below the base."""

    deployment: str | None  # of all operations that have one; `None`: their model's name
    version: str
    placed: bool  # whether the base is a deployment's already

    def path(self, path: str, model: object) -> str:
        """See `Placing.path`."""
        if self.placed or path.partition("?")[0] not in _DEPLOYED:
            return path
        name = self.deployment if self.deployment is not None else model
        if name is None or is_omitted(name):
            return path
        if str(name) in _NO_SEGMENTS:
            raise ValueError(f"a deployment cannot have the name {str(name)!r}, which would lead to another path")
        return f"/deployments/{quote(str(name), safe=chr(39) + '!$&()*+,;=:@-._~')}{path}"

    def realtime(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """See `Placing.realtime`."""
        rest = {name: value for name, value in query.items() if name != "model"}
        name = self.deployment or query.get("model")
        if not name:
            raise ConfigurationError("a realtime connection to Azure needs a model: its deployment's name")
        return {**rest, "api-version": self.version, "deployment": name}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AzureSettings(Settings):
    """The resolved options of a client of Azure's."""

    endpoint: str | None = dataclasses.field(default=None, repr=False)  # it may hold userinfo
    deployment: str | None = None
    version: str = ""
    bearer: bool = False  # the key is a token of Azure's directory

    def call_config(self) -> CallConfig:
        """See `Settings.call_config`. The version wins over any in `default_query`."""
        shown = self if self.endpoint is None else dataclasses.replace(self, base_url=f"{self.endpoint}/openai")
        query = {**self.default_query, "api-version": self.version}
        config = Settings.call_config(dataclasses.replace(shown, default_query=query))
        placed = self.endpoint is None and "/deployments" in config.base.path
        return dataclasses.replace(
            config,
            admin_key=None,  # Azure has one key for everything
            key_field="Authorization" if self.bearer else "api-key",
            auth_scheme="Bearer" if self.bearer else "",
            placing=Deployments(self.deployment, self.version, placed),
        )


class AzureOptions(ClientOptions, total=False):
    """What `AsyncAzureOpenAI.with_options` takes."""

    azure_endpoint: str | None
    azure_deployment: str | None
    api_version: str | None
    azure_ad_token: str | None
    azure_ad_token_provider: AsyncAzureADTokenProvider | None


class AsyncAzureOpenAI(AsyncOpenAI):
    """`AsyncOpenAI` for Azure.

    Args:
        azure_endpoint: the resource, as ``https://name.openai.azure.com``. Default: ``AZURE_OPENAI_ENDPOINT``. Or
            `base_url`, the URL up to ``/openai`` or up to a deployment: one of both.
        azure_deployment: the deployment of every call. Default: the call's `model` is its deployment's name.
        api_version: sent as ``api-version``. Default: ``OPENAI_API_VERSION``.
        api_key: sent as ``api-key``: a string, or an asynchronous function. Default: ``AZURE_OPENAI_API_KEY``.
        azure_ad_token: a token of Microsoft Entra ID in place of the key. Default: ``AZURE_OPENAI_AD_TOKEN``, which
            wins over a key of the environment.
        azure_ad_token_provider: a function that answers such a token and is asked for each try: asynchronous, or one
            that may block, which runs in a thread.

    Everything else is as in `AsyncOpenAI`. Raises `ConfigurationError` for options that cannot work.
    """

    @unquoting
    def __init__(
        self,
        *,
        azure_endpoint: str | None = None,
        azure_deployment: str | None = None,
        api_version: str | None = None,
        api_key: ApiKey | None = None,
        azure_ad_token: str | None = None,
        azure_ad_token_provider: AsyncAzureADTokenProvider | None = None,
        admin_api_key: str | None = None,
        organization: str | None = None,
        project: str | None = None,
        webhook_secret: str | None = None,
        base_url: Any = None,
        websocket_base_url: Any = None,
        timeout: Any = UNSET,
        max_retries: int = 2,
        default_headers: Mapping[str, Any] | None = None,
        default_query: Mapping[str, object] | None = None,
        http_client: Any = None,
        http_other: Mapping[str, Any] | None = None,
        on_request: RequestHook | None = None,
        on_answer: AnswerHook | None = None,
        on_error: ErrorHook | None = None,
        _strict_response_validation: bool = False,
        _enforce_credentials: bool = True,
    ) -> None:
        credentials = (api_key, azure_ad_token, azure_ad_token_provider)
        self._azure = _resolved(credentials, azure_endpoint, azure_deployment, api_version, base_url)
        if self._azure["key"] is None and _enforce_credentials:
            raise ConfigurationError(
                "no credentials: pass api_key=, azure_ad_token= or azure_ad_token_provider=, or set "
                "AZURE_OPENAI_API_KEY or AZURE_OPENAI_AD_TOKEN"
            )
        super().__init__(
            api_key=omit,  # type: ignore[arg-type]  # not the environment's: the key is among the settings above
            admin_api_key=admin_api_key,
            organization=organization,
            project=project,
            webhook_secret=webhook_secret,
            base_url=_shown(self._azure["endpoint"], azure_deployment, base_url),
            websocket_base_url=websocket_base_url,
            timeout=timeout,
            max_retries=max_retries,
            default_headers=default_headers,
            default_query=default_query,
            http_client=http_client,
            http_other=http_other,
            on_request=on_request,
            on_answer=on_answer,
            on_error=on_error,
            _strict_response_validation=_strict_response_validation,
            _enforce_credentials=_enforce_credentials,
        )

    def _open(self, settings: Settings, network: Network, limits: Limits | None, enforced: bool = True) -> None:
        known = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
        azure = self.__dict__.pop("_azure")
        super()._open(AzureSettings(**{**known, **azure}), network, limits, enforced)

    @takes(AzureOptions)
    @unquoting
    # It takes all that the base takes, and more. pyright holds each further keyword against the base's whole table.
    def with_options(self, **options: Unpack[AzureOptions]) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As `AsyncOpenAI.with_options`, and with the words of this constructor.

        Another `base_url` takes the place of endpoint and deployment; another credential that of the one there was.
        """
        return self._variant(dict(options))

    copy = with_options

    def _variant(self, options: dict[str, Any]) -> Self:
        words = ("azure_endpoint", "azure_deployment", "api_version", "azure_ad_token", "azure_ad_token_provider")
        given = {name: options.pop(name) for name in words if name in options}
        credentials = [options.pop("api_key", None), *(given.get(name) for name in words[3:])]
        if "data_residency" in options:
            raise ConfigurationError("data_residency is a word of OpenAI's own, not of Azure")
        base_url = options.get("base_url", options.get("api_base"))
        settings = self._azure_settings
        changes: dict[str, Any] = {}
        if any(one is not None for one in credentials):
            changes["key"], changes["bearer"] = _key_from(*credentials, environment=False)
        if given.get("api_version") is not None:
            changes["version"] = given["api_version"]
        if base_url is not None:
            if given.get("azure_endpoint") is not None:
                raise ConfigurationError("azure_endpoint and base_url exclude one another: give one of them")
            changes["endpoint"] = changes["deployment"] = None
        elif "azure_endpoint" in given or "azure_deployment" in given:
            endpoint = _endpoint(given["azure_endpoint"], None) if "azure_endpoint" in given else settings.endpoint
            deployment = given.get("azure_deployment", settings.deployment)
            changes["endpoint"], changes["deployment"] = endpoint, deployment
            changes["base_url"] = _shown(endpoint, deployment, settings.base_url)
        made = super()._variant(options)
        if changes:
            made._change(**changes)
        return made

    @property
    def api_key(self) -> str:
        """The key itself, ``""`` where a token or a function stands in its place. May be set to another key."""
        key = self._azure_settings.key
        return key.reveal() if isinstance(key, Secret) and not self._azure_settings.bearer else ""

    @api_key.setter
    @unquoting
    def api_key(self, key: ApiKey | None) -> None:
        self._change(key=key_from(key), bearer=False)

    @property
    def _azure_settings(self) -> AzureSettings:
        settings = self._settings
        assert isinstance(settings, AzureSettings)
        return settings


def _resolved(
    credentials: tuple[ApiKey | None, str | None, AsyncAzureADTokenProvider | None],
    azure_endpoint: str | None,
    azure_deployment: str | None,
    api_version: str | None,
    base_url: Any,
) -> dict[str, Any]:
    """What `AzureSettings` has beside other settings, from the arguments and the environment."""
    key, bearer = _key_from(*credentials, environment=True)
    version = api_version or env("OPENAI_API_VERSION")
    if version is None:
        raise ConfigurationError("no API version: pass api_version=, or set OPENAI_API_VERSION")
    endpoint = _endpoint(azure_endpoint, base_url)
    deployment = None if endpoint is None else azure_deployment
    if deployment is not None and str(deployment) in _NO_SEGMENTS:
        raise ConfigurationError(f"azure_deployment cannot be {str(deployment)!r}, which would lead to another path")
    return {"key": key, "bearer": bearer, "version": version, "endpoint": endpoint, "deployment": deployment}


def _endpoint(azure_endpoint: str | None, base_url: Any) -> str | None:
    if base_url is not None and not is_omitted(base_url):
        if azure_endpoint is not None:
            raise ConfigurationError("azure_endpoint and base_url exclude one another: give one of them")
        return None
    endpoint = azure_endpoint if azure_endpoint is not None else env("AZURE_OPENAI_ENDPOINT")
    if endpoint is None:
        raise ConfigurationError("no endpoint: pass azure_endpoint= or base_url=, or set AZURE_OPENAI_ENDPOINT")
    return str(endpoint).rstrip("/")


def _shown(endpoint: str | None, deployment: str | None, base_url: Any) -> str:
    """The API base as the official client shows it."""
    if endpoint is None:
        return str(base_url)
    BaseURL(endpoint)  # its complaints, before anything is put behind it
    return f"{endpoint}/openai" + ("" if deployment is None else f"/deployments/{deployment}")


def _key_from(
    api_key: ApiKey | None,
    token: str | None,
    provider: AsyncAzureADTokenProvider | None,
    *,
    environment: bool,
) -> tuple[KeySource, bool]:
    """The one credential that was given, and whether it is a token."""
    given = [one for one in (api_key, token, provider) if one is not None and not is_omitted(one)]
    if len(given) > 1:
        raise MutuallyExclusiveAuthError
    if not given and environment:
        token = env("AZURE_OPENAI_AD_TOKEN")
        api_key = env("AZURE_OPENAI_API_KEY") if token is None else None
    if provider is not None:
        return _asking(provider), True
    if token is not None:
        return key_from(token), True
    return (None, False) if api_key is None else (key_from(api_key), False)


def _asking(provider: AsyncAzureADTokenProvider) -> Callable[[], Awaitable[str]]:
    if not callable(provider):  # pyright: ignore[reportUnnecessaryComparison]  # callers may be untyped
        raise ConfigurationError("azure_ad_token_provider is a function")

    async def token() -> str:
        value: Any = await ask(provider, "azure_ad_token_provider")
        if not isinstance(value, str) or not value:
            raise ConfigurationError("azure_ad_token_provider answered something else than a token")
        return value

    return token
