"""Messages as dicts: nothing is lost on the way to JSON and back."""

import json
from types import MappingProxyType

import pytest
from hypothesis import given

from abstractllm.errors import InvalidParameterError
from abstractllm.messages import message_as_dict, to_messages
from abstractllm.types import DocumentPart, ImagePart, Message, TextPart, ToolCall

from .strategies import messages


@given(messages)
def test_nothing_is_lost(message):
    text = json.dumps(message_as_dict(message), allow_nan=False)
    assert to_messages([json.loads(text)])[0] == message
    assert to_messages([message_as_dict(message)])[0] == message


CALL = ToolCall("1", "f", {"city": "São Paulo"})
PLAIN = [
    (Message("user", "Hi"), {"role": "user", "content": "Hi"}),
    (
        Message("assistant", "", tool_calls=(CALL,)),
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"city": "São Paulo"}'}}
            ],
        },
    ),
    (
        Message("assistant", "", tool_calls=(ToolCall("1", "f", invalid='{"a'),)),
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a'}}],
        },
    ),
    (Message("tool", "7", tool_call_id="1"), {"role": "tool", "content": "7", "tool_call_id": "1"}),
    (
        Message("user", (TextPart("See"), ImagePart(b"a", "image/png"), ImagePart(b"", "", url="https://x.org/a"))),
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "See"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,YQ=="}},
                {"type": "image_url", "image_url": {"url": "https://x.org/a"}},
            ],
        },
    ),
    (
        Message("user", (DocumentPart(b"a", "application/pdf", "a.pdf"),)),
        {
            "role": "user",
            "content": [
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,YQ=="}}
            ],
        },
    ),
]


@pytest.mark.parametrize(("message", "form"), PLAIN, ids=[str(number) for number in range(len(PLAIN))])
def test_what_the_form_has_stands_in_it_alone(message, form):
    assert message_as_dict(message) == form


def test_plain_provider_data_is_copied_as_it_is():
    data = {"anthropic": [{"type": "thinking", "signature": "x"}], "n": {"$a": 1, "b": None}}
    written = message_as_dict(Message("assistant", "", provider_data=MappingProxyType(data)))["provider_data"]
    assert written == data
    written["n"]["b"] = 1
    assert data["n"]["b"] is None


def endless():
    found = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "words"), [(object(), r"it holds a object at \['a'\]\[0\]"), (endless(), "nested too deeply")]
)
def test_what_json_cannot_hold_is_named(value, words):
    with pytest.raises(InvalidParameterError, match=f"provider_data .*{words}"):
        message_as_dict(Message("assistant", "", provider_data={"a": [value]}))
    with pytest.raises(InvalidParameterError, match=f"call of 'f' .*{words}"):
        message_as_dict(Message("assistant", "", tool_calls=(ToolCall("1", "f", {"a": [value]}),)))
