"""What users say of a server: each form is read, what cannot be right is refused, and no message holds a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from abstractllm.agent.mcp.places import Address, Command, to_place
from abstractllm.errors import InvalidParameterError


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("uvx server 'two words'", Command("uvx", ("server", "two words"))),
        ("uvx server http://a", Command("uvx", ("server", "http://a"))),
        (["python", Path("a b.py")], Command("python", ("a b.py",))),
        (" https://example.com/mcp ", Address("https://example.com/mcp")),
        (
            {"command": "npx", "args": ["-y"], "env": {"A": "1"}, "cwd": Path("x")},
            Command("npx", ("-y",), {"A": "1"}, "x"),
        ),
        ({"type": "stdio", "command": "npx"}, Command("npx")),
        ({"url": "http://[::1]:1/mcp", "headers": {"A": "b"}}, Address("http://[::1]:1/mcp", {"A": "b"})),
        ({"type": "streamable-http", "url": "http://a"}, Address("http://a")),
    ],
)
def test_each_form_is_read(given, expected):
    assert to_place(given) == expected


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("", "empty"),
        ("uvx 'open", "cannot be read"),
        ([], "empty"),
        (["a", 1], "a int"),
        (["a", "b\0"], "NUL"),
        ("ftp://a/b", "http or https"),
        ("http:///path", "with a host"),
        (b"uvx", "type bytes"),
        (None, "type NoneType"),
        ({}, "either 'command' or 'url'"),
        ({"command": "a", "url": "http://a"}, "either 'command' or 'url'"),
        ({"command": "a", "arg": []}, "'arg', which is not one of .* Did you mean 'args'"),
        ({"command": "a", "args": "b"}, "must be a list"),
        ({"command": "a", "env": ["b"]}, "must be a mapping"),
        ({"command": "a", "env": {"b": 1}}, "'env' holds a int"),
        ({"command": "a", "cwd": 1}, "'cwd' must be a path"),
        ({"url": "http://a", "env": {}}, "'env', which is not one of"),
        ({"type": "sse", "url": "http://a"}, "the type 'sse'"),
        ({"mcpServers": {"a": {}}}, r"config\['mcpServers'\]\[name\]"),
    ],
)
def test_what_cannot_be_right_is_refused(given, why):
    with pytest.raises(InvalidParameterError, match=why) as caught:
        to_place(given)
    assert caught.value.parameter == "server"


def test_labels_and_representations_hold_no_secrets():
    places = [
        to_place(["tool", "--key=hush"]),
        to_place({"command": "tool", "env": {"KEY": "hush"}}),
        to_place({"url": "https://me:hush@host:1/mcp?key=hush", "headers": {"Authorization": "hush"}}),
    ]
    assert [place.label for place in places] == ["tool", "tool", "https://host:1/mcp"]
    assert "hush" not in repr(places)
