"""Which proxy goes with which origin: the environment's names, their order, and what goes past."""

from __future__ import annotations

import pytest

from openaiasync.transport.base import Origin
from openaiasync.transport.proxies import Proxies, parse_proxy

HTTP = Origin("http", "api.example", 80)
HTTPS = Origin("https", "api.example", 443)


def host_for(origin: Origin, proxy: str | None = None, *, case_blind: bool = False, **environment: str) -> str | None:
    found = Proxies(proxy, environment, case_blind=case_blind).for_origin(origin)
    return found.host if found else None


@pytest.mark.parametrize(
    ("environment", "http", "https"),
    [
        ({}, None, None),
        ({"HTTP_PROXY": "http://a"}, "a", None),
        ({"HTTPS_PROXY": "http://a"}, None, "a"),
        ({"ALL_PROXY": "http://a"}, "a", "a"),
        ({"all_proxy": "http://a"}, "a", "a"),
        ({"http_proxy": "http://a", "HTTP_PROXY": "http://b"}, "a", None),
        ({"https_proxy": "http://a", "HTTPS_PROXY": "http://b", "ALL_PROXY": "http://c"}, "c", "a"),
        ({"HTTP_PROXY": "", "ALL_PROXY": " "}, None, None),
        ({"HTTP_PROXY": "a:3128"}, "a", None),
        ({"HTTP_PROXY": "http://a", "REQUEST_METHOD": "GET"}, None, None),
        ({"http_proxy": "http://a", "REQUEST_METHOD": "GET"}, "a", None),
        ({"HTTPS_PROXY": "http://a", "REQUEST_METHOD": "GET"}, None, "a"),
    ],
)
def test_the_environment_names_proxies(environment: dict[str, str], http: str | None, https: str | None) -> None:
    """By scheme, lower case first, ALL_PROXY last; HTTP_PROXY is void in a CGI program (httpoxy)."""
    assert host_for(HTTP, **environment) == http
    assert host_for(HTTPS, **environment) == https


def test_where_names_have_no_case_cgi_voids_both() -> None:
    """On Windows the lower-case name is the same variable."""
    assert host_for(HTTP, case_blind=True, http_proxy="http://a", REQUEST_METHOD="GET") is None


def test_an_explicit_proxy_makes_the_environment_void() -> None:
    """NO_PROXY included."""
    environment = {"HTTP_PROXY": "http://b", "NO_PROXY": "*"}
    assert host_for(HTTP, "http://a", **environment) == host_for(HTTPS, "http://a", **environment) == "a"


@pytest.mark.parametrize(
    ("no_proxy", "host", "port", "past"),
    [
        ("", "api.example", 80, False),
        ("*", "api.example", 80, True),
        ("other.example", "api.example", 80, False),
        ("api.example", "api.example", 80, True),
        ("API.Example", "api.EXAMPLE", 80, True),
        ("api.example", "api.example.", 80, True),
        ("api.example.", "api.example", 80, True),
        ("example", "api.example", 80, True),
        ("ample", "api.example", 80, False),
        (".api.example", "api.example", 80, False),
        (".example", "api.example", 80, True),
        ("*.example", "api.example", 80, True),
        ("a, b ,api.example,", "api.example", 80, True),
        ("a b api.example", "api.example", 80, True),
        ("api.example:80", "api.example", 80, True),
        ("api.example:80", "api.example", 8080, False),
        ("127.0.0.1", "localhost", 80, False),
        ("localhost", "localhost", 80, True),
        ("", "localhost", 80, False),
        ("", "127.0.0.1", 80, False),
        ("127.0.0.1", "127.0.0.1", 8000, True),
        ("127.0.0.1:80", "127.0.0.1", 8000, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("10.0.0.0/8", "11.1.2.3", 80, False),
        ("10.1.2.3/8", "10.9.9.9", 80, True),
        ("10.0.0.0/8", "10.example", 80, False),
        ("::1", "::1", 80, True),
        ("[::1]", "::1", 80, True),
        ("[::1]:80", "::1", 80, True),
        ("[::1]:80", "::1", 81, False),
        ("fe80::/10", "fe80::1", 80, True),
        ("0:0:0:0:0:0:0:1", "::1", 80, True),
        ("1", "127.0.0.1", 80, False),
        ("0.1", "127.0.0.1", 80, False),
        ("%:%, ,:::", "api.example", 80, False),
    ],
)
def test_no_proxy(no_proxy: str, host: str, port: int, past: bool) -> None:
    """Names with subdomains, suffixes, ports, addresses, blocks and `*`; nothing goes past unless it is listed."""
    environment = {"HTTP_PROXY": "http://a", "NO_PROXY": no_proxy}
    assert (host_for(Origin("http", host, port), **environment) is None) is past
    environment = {"HTTP_PROXY": "http://a", "no_proxy": no_proxy, "NO_PROXY": "*"}
    if no_proxy:
        assert (host_for(Origin("http", host, port), **environment) is None) is past


@pytest.mark.parametrize(
    ("url", "host", "port", "field"),
    [
        ("http://proxy", "proxy", 80, None),
        ("proxy:3128", "proxy", 3128, None),
        ("HTTP://Proxy:8080/", "proxy", 8080, None),
        ("http://[::1]:3128", "::1", 3128, None),
        ("http://user:pass@proxy", "proxy", 80, "Basic dXNlcjpwYXNz"),
        ("user:pass@proxy:1", "proxy", 1, "Basic dXNlcjpwYXNz"),
        ("http://user@proxy", "proxy", 80, "Basic dXNlcjo="),
        ("http://us%40er:p%3Ass@proxy", "proxy", 80, "Basic dXNAZXI6cDpzcw=="),
        ("http://us%0D%0Aer:x@proxy", "proxy", 80, "Basic dXMNCmVyOng="),
    ],
)
def test_a_proxy_url_is_taken_apart(url: str, host: str, port: int, field: str | None) -> None:
    """Port 80 by default; userinfo becomes a hidden Proxy-Authorization."""
    proxy = parse_proxy(url)
    assert (proxy.host, proxy.port) == (host, port)
    assert proxy.credentials.fields() == ((("Proxy-Authorization", field),) if field else ())
    assert "pass" not in repr(proxy)


@pytest.mark.parametrize(
    "url",
    [
        "socks5://user:secret@h",
        "https://user:secret@h",
        "http://",
        "http://user:secret@",
        "http://user:secret@h:port",
        "http://user:secret@h:99999",
        "http://user:secret@[h",
        "http://user:secret@h h",
        "http://user:secret@h\r\nX: y",
    ],
)
def test_a_bad_proxy_url_is_refused_without_being_quoted(url: str) -> None:
    """The error names where it comes from, at first use for one of the environment."""
    with pytest.raises(ValueError, match="proxy") as caught:
        parse_proxy(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="proxy"):
        Proxies(url, {})
    proxies = Proxies(None, {"ALL_PROXY": url, "NO_PROXY": "localhost"})
    assert proxies.for_origin(Origin("http", "localhost", 80)) is None
    with pytest.raises(ValueError, match="ALL_PROXY") as caught:
        proxies.for_origin(HTTPS)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "host", "port", "past"),
    [
        ("bücher.example", "xn--bcher-kva.example", 80, True),
        (".bücher.example", "www.xn--bcher-kva.example", 80, True),
        ("http://a.example", "a.example", 443, True),
        ("https://a.example:8443/path", "a.example", 8443, True),
        ("https://a.example:8443/path", "a.example", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 80, True),
        ("http://[::1]:80", "::1", 80, True),
        ("*.a.example", "b.a.example", 80, True),
        ("*.a.example", "a.example", 80, False),
        ("api-*.example", "api-7.example", 80, True),
        ("api-*.example", "web-7.example", 80, False),
        ("a.*.example", "a.b.example", 80, True),
        ("*a*b*", "xxaxxbxx", 80, True),
        ("*a*b*", "xxbxxaxx", 80, False),
        ("..a.example", "b.a.example", 80, True),
        ("a.example;b.example\tc.example", "c.example", 80, True),
        ("a.example:8080", "b.a.example", 8080, True),
        ("a.example:8080", "a.example", 80, False),
    ],
)
def test_how_no_proxy_is_written(entry: str, host: str, port: int, past: bool) -> None:
    """Names as people write them, URLs in place of hosts, stars anywhere."""
    proxies = Proxies(None, {"http_proxy": "http://p:1", "https_proxy": "http://p:1", "no_proxy": entry})
    assert (proxies.for_origin(Origin("http", host, port)) is None) is past


def test_a_proxy_at_port_0_is_refused() -> None:
    """Nothing listens there, and it is not the default."""
    with pytest.raises(ValueError, match="not a proxy URL"):
        parse_proxy("http://p:0")
