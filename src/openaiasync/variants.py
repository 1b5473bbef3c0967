"""`with_options`: the words of both constructors, as changes of one client's settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from .core.codec.endpoint import nearest
from .core.model.omitted import Omit, is_omitted, omit
from .errors import ConfigurationError
from .settings import ApiKey, Settings, base_from, key_from, mapping_from, secret_from

if TYPE_CHECKING:
    from .core.policy.limits import Limits
    from .core.policy.options import Timeout
    from .engine.hooks import AnswerHook, ErrorHook, RequestHook
    from .identity.workload import WorkloadIdentity, X509WorkloadIdentity

__all__ = ["ClientOptions", "changed_settings", "takes"]

F = TypeVar("F", bound=Callable[..., Any])


class ClientOptions(TypedDict, total=False):
    """What `with_options` and `copy` take: the words of both constructors."""

    api_base: str | list[str] | None
    api_key: ApiKey | None
    api_org_name: str | None
    model: str | Mapping[str, str] | None
    http_user_agent: str | None
    http_max_in_flight: int | None
    http_max_connections_per_host: int | None
    http_max_redirects: int
    http_timeout: float | None
    http_stall_timeout: float | None
    http_deadline: float | None
    http_connect_timeout: float | None
    http_other: Mapping[str, Any] | None
    max_retries: int
    auth_scheme: str
    strict: bool
    limits: Limits | None
    on_request: RequestHook | None
    on_answer: AnswerHook | None
    on_error: ErrorHook | None
    admin_api_key: str | None
    organization: str | None
    project: str | None
    webhook_secret: str | None
    base_url: Any
    data_residency: str | None
    workload_identity: WorkloadIdentity | X509WorkloadIdentity | None
    websocket_base_url: Any
    timeout: float | Timeout | Omit | None
    default_headers: Mapping[str, Any] | None
    set_default_headers: Mapping[str, Any] | None
    default_query: Mapping[str, object] | None
    set_default_query: Mapping[str, object] | None
    http_client: Any
    _strict_response_validation: bool
    _enforce_credentials: bool | None


def takes(options: Any) -> Callable[[F], F]:
    """Show the keys of a TypedDict to `inspect.signature` as the keyword parameters that a method has."""
    words = [Parameter(name, Parameter.KEYWORD_ONLY, default=omit) for name in options.__annotations__]
    signature = Signature([Parameter("self", Parameter.POSITIONAL_OR_KEYWORD), *words])

    def mark(method: F) -> F:
        method.__dict__["__signature__"] = signature
        return method

    return mark


_SHARED = frozenset(
    {
        "http_max_connections_per_host",
        "http_max_in_flight",
        "http_other",
        "limits",
    }
)


# Official words whose `None`, there the default, changes nothing.
_KEPT = frozenset(
    {
        *("api_key", "admin_api_key", "workload_identity", "organization", "project", "webhook_secret", "base_url"),
        *("data_residency", "websocket_base_url", "default_headers", "set_default_headers", "default_query"),
        *("set_default_query",),
    }
)


def _merged(name: str) -> Callable[[Settings, Any], dict[str, Any]]:
    def change(settings: Settings, value: Mapping[str, Any]) -> dict[str, Any]:
        mapping_from(value, name)
        return {name: {**getattr(settings, name), **value}}

    return change


def _set(name: str) -> Callable[[Settings, Any], dict[str, Any]]:
    return lambda settings, value: {name: value}


def _identified(settings: Settings, value: Any) -> dict[str, Any]:
    from .identity.workload import key_of

    return {"key": key_of(value, None)}


_CHANGES: dict[str, Callable[[Settings, Any], dict[str, Any]]] = {
    "api_base": lambda settings, value: {"base_url": base_from(value)},
    "base_url": lambda settings, value: {"base_url": base_from(value)},
    "data_residency": lambda settings, value: {"base_url": base_from(None, value)},
    "websocket_base_url": lambda settings, value: {"websocket_base_url": str(value)},
    "api_key": lambda settings, value: {"key": key_from(value)},
    "workload_identity": lambda settings, value: _identified(settings, value),
    "admin_api_key": lambda settings, value: {"admin_key": secret_from(value)},
    "webhook_secret": lambda settings, value: {"webhook_secret": secret_from(value)},
    "api_org_name": _set("organization"),
    "organization": _set("organization"),
    "project": _set("project"),
    "model": _set("model"),
    "http_user_agent": _set("user_agent"),
    "http_max_redirects": _set("max_redirects"),
    "http_timeout": _set("start_timeout"),
    "http_stall_timeout": _set("stall_timeout"),
    "http_deadline": _set("deadline"),
    "http_connect_timeout": _set("connect_timeout"),
    "timeout": _set("timeout"),
    "max_retries": _set("max_retries"),
    "on_request": _set("on_request"),
    "on_answer": _set("on_answer"),
    "on_error": _set("on_error"),
    "auth_scheme": _set("auth_scheme"),
    "strict": _set("strict"),
    "_strict_response_validation": _set("strict"),
    "default_headers": _merged("default_headers"),
    "set_default_headers": _set("default_headers"),
    "default_query": _merged("default_query"),
    "set_default_query": _set("default_query"),
}


def changed_settings(settings: Settings, options: Mapping[str, Any]) -> Settings:
    """The settings with these options changed. `TypeError`: unknown words; `ConfigurationError`: what is shared."""
    changes: dict[str, Any] = {}
    for name in ("default_headers", "default_query"):
        if all(options.get(word) is not None and not is_omitted(options[word]) for word in (name, f"set_{name}")):
            raise ConfigurationError(f"`{name}` and `set_{name}` arguments are mutually exclusive")
    if options.get("api_key") is not None and options.get("workload_identity") is not None:
        raise ConfigurationError("api_key and workload_identity exclude one another: give one of them")
    for name, value in options.items():
        if is_omitted(value):
            continue
        if name in _SHARED:
            raise ConfigurationError(f"{name} belongs to what clients made by with_options share: make a new client")
        change = _CHANGES.get(name)
        if change is None:
            raise TypeError(f"with_options() has no option {name!r}{nearest(name, frozenset(_CHANGES))}")
        if value is not None or name not in _KEPT:
            changes.update(change(settings, value))
    return dataclasses.replace(settings, **changes)
