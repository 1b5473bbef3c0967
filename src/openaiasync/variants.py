"""`with_options`: the words of both constructors, as changes of one client's settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from .core.endpoint import nearest
from .errors import ConfigurationError
from .omitted import is_omitted
from .settings import Settings, base_from, key_from

__all__ = ["changed_settings"]

_SHARED = frozenset(
    {
        "http_client",
        "http_max_connections_per_host",
        "http_max_in_flight",
        "http_other",
        "limits",
    }
)


def _merged(name: str) -> Callable[[Settings, Any], dict[str, Any]]:
    def change(settings: Settings, value: Mapping[str, Any]) -> dict[str, Any]:
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
    "websocket_base_url": _set("websocket_base_url"),
    "api_key": lambda settings, value: {"key": key_from(value)},
    "workload_identity": lambda settings, value: _identified(settings, value),
    "admin_api_key": lambda settings, value: {"admin_key": key_from(value)},
    "webhook_secret": lambda settings, value: {"webhook_secret": key_from(value)},
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
    if options.get("api_key") is not None and options.get("workload_identity") is not None:
        raise ConfigurationError("api_key and workload_identity exclude one another: give one of them")
    for name, value in options.items():
        if name in _SHARED:
            raise ConfigurationError(f"{name} belongs to what clients made by with_options share: make a new client")
        change = _CHANGES.get(name)
        if change is None:
            raise TypeError(f"with_options() has no option {name!r}{nearest(name, frozenset(_CHANGES))}")
        if not is_omitted(value):
            changes.update(change(settings, value))
    return dataclasses.replace(settings, **changes)
