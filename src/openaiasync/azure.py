"""`AsyncAzureOpenAI`: OpenAI's models on Azure, with the deployment in the path and the key in another header field."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self, TypedDict, Unpack
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from .client import AsyncOpenAI, CommonOptions, OfficialOnlyOptions, VariantOptions
from .core.model.omitted import is_omitted
from .engine.config import Secret
from .engine.sealing import unquoting
from .errors import ConfigurationError
from .options import AZURE, AZURE_VARIANTS, ApiKey, AsyncAzureADTokenProvider, ClientConfig, Hidden, OptionSet, shows

__all__ = ["AsyncAzureADTokenProvider", "AsyncAzureOpenAI", "MutuallyExclusiveAuthError"]

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


class MutuallyExclusiveAuthError(ConfigurationError):
    """More than one of `api_key`, `azure_ad_token` and `azure_ad_token_provider` was given."""

    def __init__(self, message: str = "pass one of api_key, azure_ad_token and azure_ad_token_provider") -> None:
        super().__init__(message)


class Deployments(Struct, frozen=True):
    """Place Azure's operations: some below ``/deployments/{model}``, the others right below the base."""

    deployment: str | None  # of every operation that has one; `None`: the name of the call's model
    version: str
    placed: bool  # whether the base is already that of a deployment

    def path(self, path: str, model: object) -> str:
        """See `Placing.path`."""
        if self.placed or path.partition("?")[0] not in _DEPLOYED:
            return path
        name = self.deployment if self.deployment is not None else model
        if name is None or is_omitted(name):
            return path
        if str(name) in ("", ".", ".."):
            raise ValueError(f"a deployment cannot be named {str(name)!r}, which would lead to another path")
        return f"/deployments/{quote(str(name), safe=chr(39) + '!$&()*+,;=:@-._~')}{path}"

    def realtime(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """See `Placing.realtime`."""
        rest = {name: value for name, value in query.items() if name != "model"}
        name = self.deployment or query.get("model")
        if not name:
            raise ConfigurationError("a realtime connection to Azure needs a model: pass the name of its deployment")
        return {**rest, "api-version": self.version, "deployment": name}


class AzureConfig(ClientConfig, frozen=True, kw_only=True):
    """The resolved options of an Azure client."""

    endpoint: Hidden[str] | None = None  # it may hold userinfo
    deployment: str | None = None
    version: str = ""
    bearer: bool = False  # whether the key is a token of Microsoft Entra ID

    def derived(self) -> dict[str, Any]:
        """See `ClientConfig.derived`. The version wins over one in `default_query`."""
        if not self.version:
            raise ConfigurationError("no API version: pass api_version=, or set OPENAI_API_VERSION")
        if self.endpoint is None and not self.base_url.reveal():
            raise ConfigurationError("no endpoint: pass azure_endpoint= or base_url=, or set AZURE_OPENAI_ENDPOINT")
        deployment = None if self.endpoint is None else self.deployment
        root = self.base_url.reveal() if self.endpoint is None else f"{self.endpoint.reveal()}/openai"
        query = Hidden({**self.default_query.reveal(), "api-version": self.version})
        made = ClientConfig.derived(replace(self, base_url=Hidden(root), default_query=query))
        placed = self.endpoint is None and "/deployments" in made["base"].path
        return {
            **made,
            # The official client shows the deployment in its base; requests get theirs from `placing`.
            "base_url": Hidden(root if deployment is None else f"{root}/deployments/{deployment}"),
            "key_field": "Authorization" if self.bearer else "api-key",
            "auth_scheme": "Bearer" if self.bearer else "",
            "placing": Deployments(deployment, self.version, placed),
        }

    def require_key(self) -> None:
        """Raise `ConfigurationError` if there is no credential."""
        if self.key is None:
            raise ConfigurationError(
                "no credentials: pass api_key=, azure_ad_token= or azure_ad_token_provider=, or set "
                "AZURE_OPENAI_API_KEY or AZURE_OPENAI_AD_TOKEN"
            )


class AzureOnlyOptions(TypedDict, total=False):
    """The keywords that only `AsyncAzureOpenAI` has."""

    azure_endpoint: str | None
    azure_deployment: str | None
    api_version: str | None
    azure_ad_token: str | None
    azure_ad_token_provider: AsyncAzureADTokenProvider | None


class AzureOptions(CommonOptions, OfficialOnlyOptions, AzureOnlyOptions, total=False):
    """The keywords of `AsyncAzureOpenAI`."""


class AzureVariantOptions(VariantOptions, AzureOnlyOptions, total=False):
    """The keywords of `AsyncAzureOpenAI.with_options`. Those only for OpenAI exist for subtyping, and are refused."""


class AsyncAzureOpenAI(AsyncOpenAI):
    """`AsyncOpenAI` for Azure.

    Args:
        azure_endpoint: the resource, such as ``https://name.openai.azure.com``. Default: ``AZURE_OPENAI_ENDPOINT``.
            Or pass `base_url`, the URL up to ``/openai`` or up to a deployment.
        azure_deployment: the deployment for every call. Default: the call's `model` is the name of its deployment.
        api_version: sent as ``api-version``. Default: ``OPENAI_API_VERSION``.
        api_key: sent as ``api-key``: a string, or an async function. Default: ``AZURE_OPENAI_API_KEY``.
        azure_ad_token: a token of Microsoft Entra ID in place of the key. Default: ``AZURE_OPENAI_AD_TOKEN``, which
            wins over a key in the environment.
        azure_ad_token_provider: a function that returns such a token and is called before each attempt: an async one,
            or one that may block, which runs in a thread.

    Everything else is as in `AsyncOpenAI`.

    Raises:
        ConfigurationError: an option has a value that cannot work, or one is missing.
        MutuallyExclusiveAuthError: more than one credential was given.
        TypeError: an option does not exist.
    """

    _variant_options: ClassVar[OptionSet] = AZURE_VARIANTS

    @shows(AZURE, AzureOptions)
    @unquoting
    def __init__(self, **options: Unpack[AzureOptions]) -> None:
        _check_credentials(options)
        self._open(AzureConfig.resolved(AZURE, options))

    @shows(AZURE_VARIANTS, AzureVariantOptions)
    @unquoting
    # It takes more keywords than the base's; pyright compares each one with the base's whole table.
    def with_options(self, **options: Unpack[AzureVariantOptions]) -> Self:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return a client as `AsyncOpenAI.with_options` does, with the keywords of this constructor.

        Another `base_url` replaces endpoint and deployment; another credential replaces the current one.
        """
        _check_credentials(options)
        return self._variant(options)

    copy = with_options

    @property
    def api_key(self) -> str:
        """The key itself; ``""`` if a token or a function is used instead. Settable to another key."""
        config = self._config
        assert isinstance(config, AzureConfig)
        return config.key.reveal() if isinstance(config.key, Secret) and not config.bearer else ""

    @api_key.setter
    @unquoting
    def api_key(self, key: ApiKey | None) -> None:
        self._set("api_key", key)


def _check_credentials(keywords: Mapping[str, Any]) -> None:
    names = ("api_key", "azure_ad_token", "azure_ad_token_provider")
    if sum(keywords.get(name) is not None and not is_omitted(keywords[name]) for name in names) > 1:
        raise MutuallyExclusiveAuthError
