"""The table of options against all that is made from it: constructors, copies, environment, docs."""

from __future__ import annotations

import ast
import inspect
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import openaiasync
from openaiasync import AsyncAzureOpenAI, AsyncOpenAI, Client, ConfigurationError, Limits, RequestOptions, Timeout, omit
from openaiasync.azure import AzureOptions, AzureVariantOptions
from openaiasync.bridge import BridgeOptions
from openaiasync.client import ClientOptions, OfficialOptions, VariantOptions
from openaiasync.engine.config import Secret
from openaiasync.options import (
    AZURE,
    AZURE_VARIANTS,
    CLIENT,
    OFFICIAL,
    OPTIONS,
    UNSET,
    VARIANTS,
    ClientConfig,
    Hidden,
    Option,
    OptionSet,
)
from openaiasync.testing import FakeTransport

PAGE = Path(__file__).resolve().parents[2] / "docs" / "options.md"
BASE = "http://127.0.0.1:1/v1"
ALIVE: dict[type[Client], dict[str, Any]] = {
    Client: {"api_base": BASE},
    AsyncOpenAI: {"base_url": BASE},
    AsyncAzureOpenAI: {"azure_endpoint": "http://127.0.0.1:1", "api_version": "v", "api_key": "k"},
}
SETS = {Client: CLIENT, AsyncOpenAI: OFFICIAL, AsyncAzureOpenAI: AZURE}


async def provider() -> str:
    return "token"


def hook(event: object) -> None: ...


# For each field a value that is not its default, and what the configuration keeps of it where that is another one.
TRANSPORT = FakeTransport([])
CONTEXT = ssl.create_default_context()
LIMITS = Limits(max_in_flight=7)
SAMPLES: dict[str, Any] = {
    "base_url": "http://127.0.0.1:2/v2",
    "data_residency": ("eu", "https://eu.api.openai.com/v1"),
    "key": "sk-1",
    "workload_identity": UNSET,  # made into an object: see tests/identity
    "endpoint": ("http://127.0.0.1:3/", "http://127.0.0.1:3"),
    "deployment": "mine",
    "version": "2025-04-01",
    "azure_ad_token_provider": UNSET,  # made into a function: see test_azure.py
    "admin_key": "sk-admin",
    "organization": "org-1",
    "project": "proj-1",
    "webhook_secret": "whsec_1",
    "websocket_base_url": "ws://127.0.0.1:4",
    "models": ("m", {"": "m"}),
    "auth_scheme": "Token",
    "strict": True,
    "max_retries": 5,
    "default_headers": {"X-A": "1"},
    "default_query": {"a": 1},
    "user_agent": "mine/1",
    "max_in_flight": 9,
    "max_connections_per_host": 8,
    "max_redirects": 7,
    "connect_timeout": 6.5,
    "start_timeout": 5.5,
    "stall_timeout": 4.5,
    "timeout": Timeout(3.5, connect=1.5),
    "deadline": 2.5,
    "queue_timeout": 1.5,
    "max_body": 1000,
    "limits": LIMITS,
    "http_client": TRANSPORT,  # anything with `send` and `aclose`
    "own_transport": TRANSPORT,
    "ssl": CONTEXT,
    "proxy": "http://127.0.0.1:5",
    "trust_env": False,
    "local_addr": ("127.0.0.1", 0),
    "uds": "/tmp/socket",
    "keepalive": None,
    "happy_eyeballs_delay": 0.5,
    **dict.fromkeys(("on_request", "on_answer", "on_error"), hook),
    "enforce_credentials": False,
}


def sample(option: Option) -> tuple[Any, Any]:
    """A value for the option, and what the configuration has for it."""
    value = SAMPLES.get(option.official, SAMPLES[option.field])
    return value if isinstance(value, tuple) and option.field in ("base_url", "endpoint", "models") else (value, value)


def kept(config: ClientConfig, option: Option) -> Any:
    """What a configuration has of an option, out of its wrappings."""
    value = config.tcp.reveal()[option.field] if option.tcp else getattr(config, option.field)
    return value.reveal() if isinstance(value, (Hidden, Secret)) else value


def rows() -> Iterator[Any]:
    for kind, options in SETS.items():
        for name, option in options.keywords.items():
            if option.field != "http_other" and sample(option)[0] is not UNSET:
                yield pytest.param(kind, name, option, id=f"{kind.__name__}-{name}")


def made(kind: type[Client], **options: Any) -> Client:
    alive = dict(ALIVE[kind])
    if options.keys() & {"base_url", "data_residency"}:
        alive.pop("base_url", None)
        alive.pop("azure_endpoint", None)
    if "azure_ad_token" in options:
        del alive["api_key"]
    return kind(**{"api_key": "k", **alive, **options} if "data_residency" in options else {**alive, **options})


@pytest.mark.parametrize(("kind", "name", "option"), list(rows()))
def test_a_keyword_reaches_its_field_and_every_copy(kind: type[Client], name: str, option: Option) -> None:
    """Constructor → configuration → `copy` → configuration; and the same field by `with_options`, or a refusal."""
    given, expected = sample(option)
    client = made(kind, **{name: given})
    assert kept(client._config, option) == expected
    assert kept(client.copy()._config, option) == expected
    assert kept(client.with_options(**{name: omit})._config, option) == expected
    plain = made(kind, api_key="k")
    if option.shared:
        with pytest.raises(ConfigurationError, match=name):
            plain.with_options(**{name: given})
    else:
        assert kept(plain.with_options(**{name: given})._config, option) == expected


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.client and o.official], ids=lambda o: o.field)
def test_both_names_mean_the_same(option: Option) -> None:
    """What `Client` calls one thing and `AsyncOpenAI` another ends in the same field, and both names change it."""
    if option.field == "http_other" or "endpoint" in option.fields:
        return
    given, expected = sample(option)
    own, official = made(Client, **{option.client: given}), made(AsyncOpenAI, **{option.official: given})
    assert kept(own._config, option) == kept(official._config, option) == expected
    assert kept(official.with_options(**{option.client: given})._config, option) == expected
    assert kept(own.with_options(**{option.official: given})._config, option) == expected


@pytest.mark.parametrize("kind", SETS)
def test_http_other(kind: type[Client]) -> None:
    """Its keys reach their fields, with and without ``http_``."""
    for name, option in SETS[kind].other.items():
        given, expected = sample(option)
        for key in (name, f"http_{name}"):
            client = kind(**ALIVE[kind], http_other={key: given})
            assert kept(client._config, option) == expected, key
            assert kept(client.copy()._config, option) == expected, key


@pytest.mark.parametrize("kind", SETS)
def test_a_keyword_wins_over_http_other(kind: type[Client]) -> None:
    """Named options win, also where they say "no limit"."""
    for name, option in SETS[kind].other.items():
        keyword = next((one for one, row in SETS[kind].keywords.items() if row is option), None)
        if keyword is None or option.field == "max_redirects":
            continue
        value = "other/1" if option.field == "user_agent" else None
        client = kind(**ALIVE[kind], http_other={name: sample(option)[0]}, **{keyword: value})
        assert kept(client._config, option) == value


@pytest.mark.parametrize("kind", SETS)
def test_the_environment(kind: type[Client], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable reaches its field, the first of several wins, blank ones are not there, a keyword wins."""
    for name, option in SETS[kind].keywords.items():
        if not option.environment or option.merged:
            continue
        alive = dict(ALIVE[kind])
        for one in [one for one in alive if set(SETS[kind].keywords[one].fields) & set(option.fields)]:
            del alive[one]
        text = str(sample(option)[0])
        for place, variable in enumerate(option.environment):
            with monkeypatch.context() as patch:
                for other in option.environment[:place]:
                    patch.setenv(other, "  ")
                patch.setenv(variable, text)
                for other in option.environment[place + 1 :]:
                    patch.setenv(other, "http://127.0.0.1:9/later")
                client = kind(**{**({} if option.field == "key" else {"api_key": "k"}), **alive})
                assert kept(client._config, option) == sample(option)[1], variable
                if name not in ALIVE[kind] and name != "api_key":
                    continue
                assert kept(kind(**{"api_key": "k", **ALIVE[kind]})._config, option) == ALIVE[kind].get(name, "k")


def test_the_variables_errors_name_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of the environment that no header can carry is named by its variable, and not quoted."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1\u20ac")
    with pytest.raises(ConfigurationError, match=r"^OPENAI_API_KEY") as caught:
        Client(api_base=BASE)
    assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize(
    ("typed", "options"),
    [
        (ClientOptions, CLIENT),
        (OfficialOptions, OFFICIAL),
        (AzureOptions, AZURE),
        (VariantOptions, VARIANTS),
        (AzureVariantOptions, AZURE_VARIANTS),
    ],
)
def test_type_checkers_see_the_same_keywords(typed: Any, options: OptionSet) -> None:
    """The TypedDict of each function has the keywords of its options, no more and no fewer."""
    of_openai_alone = {"data_residency", "workload_identity"} if options is AZURE_VARIANTS else set[str]()
    assert set(typed.__annotations__) - of_openai_alone == set(options.keywords)


# Environment variables of the API that are read outside the table, each with the reason.
OTHER_READERS = {
    "engine/log.py": "OPENAI_LOG sets the log of the process, not of a client",
    "cli/arguments.py": "a stored key is used where the environment names none; the log shows neither",
    "ray/worker_options.py": "says which variable of the worker's environment is wrong",
    "cli/doctor_command.py": "tells where the key is from",
    "cli/front_command.py": "the key of OpenAI's own API, one of several upstreams",
    "testing/recording_server.py": "sets the variables for the programs that it tests",
}


def readers(package: Path) -> set[str]:
    """The hand-written files that name an environment variable of the API."""
    return {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "OPENAI_" in (text := path.read_text(encoding="utf-8"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and re.fullmatch(r"(AZURE_)?OPENAI_[A-Z_]+", str(node.value))
    }


def test_only_the_table_reads_the_environment() -> None:
    """No option has a variable that the table, and so the page, does not know."""
    package = Path(openaiasync.__file__).parent
    assert readers(package) == {"options.py", *OTHER_READERS}


def test_no_function_has_an_option_beside_its_keywords() -> None:
    """Constructors and `with_options` have no parameter of their own: what the table lacks cannot be given."""
    for kind in (Client, AsyncOpenAI, AsyncAzureOpenAI):
        for method in (kind.__init__, kind.with_options, kind.copy):
            code = inspect.unwrap(method).__code__
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            assert (names, code.co_flags & inspect.CO_VARKEYWORDS) == (("self",), inspect.CO_VARKEYWORDS), method


def test_the_bridge_has_the_options_of_the_table() -> None:
    """Its keywords are some of `Client`'s."""
    assert set(BridgeOptions.__annotations__) <= set(CLIENT.keywords)


def test_options_of_a_call() -> None:
    """Each per-call option stands beside the client's option that it replaces or adds to; a body has none."""
    assert {option.per_call for option in OPTIONS if option.per_call} | {"extra_body"} == set(
        RequestOptions.__annotations__
    )


@pytest.mark.parametrize(
    ("kind", "wrong", "right"),
    [
        (Client, "base_url", "did you mean 'api_base'"),
        (Client, "organization", "did you mean 'api_org_name'"),
        (Client, "timeout", "did you mean 'http_timeout'"),
        (Client, "max_in_flight", "did you mean 'http_max_in_flight'"),
        (Client, "deadline", "did you mean 'http_deadline'"),
        (Client, "user_agent", "did you mean 'http_user_agent'"),
        (Client, "_strict_response_validation", "did you mean 'strict'"),
        (Client, "proxy", r"did you mean http_other=\{'proxy': \.\.\.\}"),
        (Client, "http_queue_timeout", r"did you mean http_other=\{'queue_timeout': \.\.\.\}"),
        (Client, "project", "it is an option of AsyncOpenAI"),
        (Client, "http_client", "it is an option of AsyncOpenAI"),
        (Client, "http_timeot", "did you mean 'http_timeout'"),
        (Client, "nonsense", r"no option 'nonsense'$"),
        (AsyncOpenAI, "api_base", "did you mean 'base_url'"),
        (AsyncOpenAI, "api_org_name", "did you mean 'organization'"),
        (AsyncOpenAI, "http_timeout", "did you mean 'timeout'"),
        (AsyncOpenAI, "strict", "did you mean '_strict_response_validation'"),
        (AsyncOpenAI, "http_max_in_flight", r"did you mean http_other=\{'max_in_flight': \.\.\.\}"),
        (AsyncOpenAI, "max_in_flight", r"did you mean http_other=\{'max_in_flight': \.\.\.\}"),
        (AsyncOpenAI, "model", "it is an option of Client"),
        (AsyncOpenAI, "http_stall_timeout", "it is an option of Client"),
        (AsyncOpenAI, "azure_endpoint", "it is an option of AsyncAzureOpenAI"),
        (AsyncAzureOpenAI, "api_base", "did you mean 'base_url'"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_one(kind: Any, wrong: str, right: str) -> None:
    """The name of the other client, of `http_other`, or a slip of the pen."""
    with pytest.raises(TypeError, match=rf"{kind.__name__}\(\) has no option '{wrong}'.*{right}|{right}"):
        kind(**ALIVE[kind], **{wrong: "x"})


def test_http_other_of_the_official_client_refuses_what_its_timeout_sets() -> None:
    """An option that would be ignored is an error, not silence."""
    with pytest.raises(TypeError, match="http_other has no option 'stall_timeout'"):
        AsyncOpenAI(base_url=BASE, http_other={"stall_timeout": 3})
    assert AsyncOpenAI(base_url=BASE, http_other={"timeout": 3}).timeout == 3
    assert AsyncOpenAI(base_url=BASE, http_other={"connect_timeout": 3}).timeout == Timeout(600, connect=3)


def test_headers_and_query_of_every_request() -> None:
    """`Client` has them under the official names; `with_options` adds to them or replaces them."""
    client = Client(api_base=BASE, default_headers={"X-A": "1"}, default_query={"a": 1})
    more = client.with_options(default_headers={"X-B": "2"}, default_query={"b": 2})
    assert (more.default_headers, more.default_query) == ({"X-A": "1", "X-B": "2"}, {"a": 1, "b": 2})
    less = more.with_options(set_default_headers={"X-C": "3"}, set_default_query={})
    assert (less.default_headers, less.default_query) == ({"X-C": "3"}, {})
    assert client.default_headers == {"X-A": "1"}


def test_none_returns_an_option_of_client_to_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """In `with_options` as in the constructor: the environment, then the default."""
    monkeypatch.setenv("OPENAI_ORG_ID", "org-env")
    client = Client(api_base=BASE, api_org_name="org-1", auth_scheme="Token", http_user_agent="mine/1", api_key="k")
    assert client.with_options(api_org_name=None).organization == "org-env"
    plain: Any = client.with_options(api_base=None, http_user_agent=None, auth_scheme=None)
    assert plain.base_url == "https://api.openai.com/v1/"
    assert (plain._config.user_agent, plain._config.auth_scheme) == (None, "Bearer")
    assert client.with_options(organization=None).organization == "org-1"  # as the official client does


# ---------------------------------------------------------------- docs/options.md

SAID = {  # how the page says what a default is that no literal shows
    "base_url": "OpenAI's",
    "user_agent": "the versions of this library and Python",
    "max_connections_per_host": "`http_max_in_flight`",
    "timeout": "600",
    "ssl": "the system's certificates",
    "proxy": "from the environment",
    "local_addr": "any",
    "max_body": "by kind",
    "own_transport": "our own",
    "websocket_base_url": "`base_url`",
    "http_other": "",
}


def said(options: OptionSet, option: Option) -> str:
    """How the page shows a default."""
    default = options.default(option)
    if option.field in SAID and not (isinstance(default, int) and not isinstance(default, bool)):
        return SAID[option.field]
    if default is None or default in ({}, ""):
        return "none"
    if isinstance(default, bool):
        return f"`{default}`"
    return f"{default:,g}" if isinstance(default, (int, float)) else f'`"{default}"`'


def tables() -> dict[str, dict[str, list[str]]]:
    """The rows of the page's tables by heading and first cell."""
    found: dict[str, dict[str, list[str]]] = {}
    heading = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:].strip("`")
        elif line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            for name in re.findall(r"`(\w+)`", cells[0]):
                found.setdefault(heading, {})[name] = cells
    return found


@pytest.mark.parametrize(("heading", "options"), [("Client", CLIENT), ("AsyncOpenAI", OFFICIAL)])
def test_the_page_shows_every_keyword(heading: str, options: OptionSet) -> None:
    """Name, unit, default and environment variables of the page are those of the table."""
    shown = tables()[heading]
    assert set(shown) == {name for name in options.keywords if name != "_enforce_credentials"}
    for name, option in options.keywords.items():
        if name == "_enforce_credentials":
            continue
        _, unit, default, environment, _ = shown[name]
        assert unit.partition(",")[0] == option.unit, name
        assert default == said(options, option), name
        assert re.findall(r"`(\w+)`", environment) == list(option.environment), name


def test_the_page_shows_what_http_other_takes() -> None:
    """Every key that is not the short form of a keyword, with its unit and default."""
    shown = tables()["Connections"]
    options = {name: option for name, option in CLIENT.other.items() if not option.client}
    assert set(shown) == set(options)
    for name, option in options.items():
        _, unit, default, _ = shown[name]
        assert (unit, default) == (option.unit, said(CLIENT, option)), name
