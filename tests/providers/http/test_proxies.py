"""Proxies: which one the environment names, and what it gets to see."""

from __future__ import annotations

import pytest

from abstractllm.errors import ConfigurationError, ProviderConnectionError
from abstractllm.providers.http.proxies import proxy_for
from abstractllm.testing.loopback import LoopbackServer, Reply

from .toy import KEY, Toy, failure, free_port, friendly


def test_a_proxy_gets_the_request(monkeypatch):
    with LoopbackServer(friendly) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("://", "://me:p%40ss@"))
        with Toy("http://service.invalid/v1") as llm:
            assert llm.generate("Hi").content == "Hi"
            assert llm.generate("Hi").content == "Hi"
    for request in proxy.requests:
        assert request.path == "http://service.invalid/v1/answer"
        assert request.headers["proxy-authorization"] == "Basic bWU6cEBzcw=="


def test_a_tunnel_is_asked_for_without_the_key(monkeypatch):
    with LoopbackServer([Reply(407)]) as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url.replace("://", "://me:p%40ss@"))
        with Toy("https://service.invalid/v1") as llm:
            error = failure(llm, ProviderConnectionError)
            assert llm.pauses == []
    assert "status 407" in error.message
    assert proxy.requests[0].method == "CONNECT"
    assert proxy.requests[0].headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
    assert KEY not in str(proxy.requests[0].headers)


def test_a_proxy_that_is_not_there(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    with Toy("http://service.invalid", max_retries=0) as llm:
        assert "proxy" in failure(llm, ProviderConnectionError).message


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("http://a.example", {}, None),
        ("http://a.example", {"http_proxy": "http://p:1"}, "http://p:1"),
        ("http://a.example", {"HTTPS_PROXY": "http://p:1"}, None),
        ("https://a.example", {"HTTPS_PROXY": "p:1"}, "http://p:1"),
        ("https://a.example", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://a.example", {"ALL_PROXY": "http://p:1", "NO_PROXY": "b.example,.example"}, None),
        ("https://a.example", {"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("http://127.0.0.1:8080", {"ALL_PROXY": "http://p:1"}, None),
        ("http://[::1]:8080", {"ALL_PROXY": "http://p:1"}, None),
        ("http://LOCALHOST", {"ALL_PROXY": "http://p:1"}, None),
    ],
)
def test_which_proxy_the_environment_names(monkeypatch, url, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_for(url)
    assert (found and found.url) == expected


def test_a_proxy_of_another_kind_is_refused(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@p:1")
    with Toy("http://service.invalid") as llm:
        error = failure(llm, ConfigurationError)
    assert "socks5" in error.message
    assert "secret" not in error.message


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://a..b/v1", ""),
        (f"http://{'a' * 64}.invalid", ""),
        ("http://service.invalid", "http://proxy:port"),
        ("http://service.invalid", "http://a..b:1"),
        ("http://service.invalid", "http://[::1"),
    ],
)
def test_an_address_that_nothing_can_have(monkeypatch, url, proxy):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    with Toy(url) as llm:
        error = failure(llm, ProviderConnectionError)
        assert llm.pauses == []  # it will be the same next time
    assert "base_url and at HTTP_PROXY" in error.message
