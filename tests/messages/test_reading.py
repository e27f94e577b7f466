"""Conversations as users write them."""

import base64
import json

import pytest
from hypothesis import given, strategies as st

from abstractllm.errors import InvalidParameterError
from abstractllm.messages import to_messages
from abstractllm.types import DocumentPart, ImagePart, Message, TextPart, ToolCall

names = st.text(min_size=1, max_size=10)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
calls = st.builds(ToolCall, names, names, st.dictionaries(st.text(), values, max_size=3))
images = st.builds(
    ImagePart, st.binary(min_size=1), st.sampled_from(["image/png", "image/jpeg", "image/webp"])
) | st.builds(lambda path: ImagePart(b"", "", url="https://example.org/" + path), st.text("abc/", max_size=8))
parts = st.lists(st.builds(TextPart, st.text()) | images, max_size=4).map(tuple)
messages = st.one_of(
    st.builds(Message, st.sampled_from(["system", "user"]), st.text() | parts, name=st.none() | names),
    st.builds(
        Message, st.just("assistant"), st.text(), tool_calls=st.lists(calls, max_size=3).map(tuple),
        reasoning=st.none() | st.text(),
    ),
    st.builds(Message, st.just("tool"), st.text(), tool_call_id=names),
)  # fmt: skip


def openai_part(part):
    if isinstance(part, TextPart):
        return {"type": "text", "text": part.text}
    data = f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"
    return {"type": "image_url", "image_url": {"url": part.url or data}}


def openai_call(call):
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
    }


def openai_form(message):
    text = isinstance(message.content, str)
    form = {"role": message.role, "content": message.content if text else [openai_part(one) for one in message.content]}
    if message.tool_calls:
        form["tool_calls"] = [openai_call(call) for call in message.tool_calls]
        form["content"] = form["content"] or None
    optional = {"name": message.name, "tool_call_id": message.tool_call_id, "reasoning": message.reasoning}
    return form | {key: value for key, value in optional.items() if value is not None}


@given(st.lists(messages, min_size=1, max_size=5))
def test_openai_form_round_trips(conversation):
    assert to_messages([openai_form(message) for message in conversation]) == tuple(conversation)


@given(st.lists(messages, min_size=1, max_size=5))
def test_messages_stay_what_they_are(conversation):
    assert all(a is b for a, b in zip(to_messages(conversation), conversation, strict=True))


json_like = st.recursive(
    scalars | st.binary() | st.just(5000).map(lambda digits: 10**digits),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
tags = st.sampled_from(["$bytes", "$float", "$int", "$tuple", "$items", "$dict", "$new", "a"])
turn_like = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system"]) | json_like},
    optional={
        "content": json_like
        | st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["text", "image_url", "file"])},
                optional={
                    "text": json_like,
                    "name": json_like,
                    "media_type": json_like,
                    "source": json_like,
                    "file": json_like
                    | st.fixed_dictionaries({"file_data": json_like | st.text().map("data:".__add__)}),
                    "image_url": json_like
                    | st.fixed_dictionaries({"url": json_like | st.text().map("data:image/png;base64,".__add__)}),
                },
            )
        ),
        "name": json_like,
        "tool_call_id": json_like,
        "reasoning": json_like,
        "provider_data": json_like | st.dictionaries(tags, json_like),
        "tool_calls": json_like
        | st.lists(
            st.fixed_dictionaries(
                {"function": st.fixed_dictionaries({"name": json_like, "arguments": json_like})},
                optional={"values": json_like | st.dictionaries(tags, json_like), "invalid": json_like},
            )
        ),
    },
)


@given(json_like | st.lists(turn_like | json_like, max_size=3))
def test_no_input_raises_another_error(conversation):
    try:
        found = to_messages(conversation)
    except InvalidParameterError as error:
        assert error.parameter == "messages"
        return
    for message in found:
        assert isinstance(message.content, (str, tuple))
        assert message.name is None or isinstance(message.name, str)
        assert all(isinstance(call.name, str) and isinstance(call.id, str) for call in message.tool_calls)


BAD = [
    ("a text", "list of messages"),
    ([], "list of messages"),
    ({"role": "user"}, "list of messages"),
    (["Hello"], r"messages\[0\] is a str"),
    ([{"role": "king", "content": "x"}], "use one of system, user, assistant, tool"),
    ([{"content": "x"}], "role None"),
    ([{"role": "user"}], "has no content"),
    ([{"role": "user", "contents": "Hi"}], "has no content"),
    ([{"role": "user", "content": {"type": "text", "text": "Hi"}}], "content of type dict"),
    ([{"role": "user", "content": 3}], "content of type int"),
    ([{"role": "user", "content": [{"type": "audio"}]}], "neither text, image_url nor file"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "without a url"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": "cat.png"}]}], "pass local files as files="),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,%"}]}], "valid base64"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png;base64,é"}]}], "valid base64"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": "data:text/plain;base64,YQ=="}]}], "in the form"),
    ([{"role": "user", "content": [{"type": "file"}]}], "a file without file_data"),
    ([{"role": "user", "content": [{"type": "file", "file": {"file_id": "f-1"}}]}], "a file without file_data"),
    ([{"role": "user", "content": [{"type": "file", "file": {"file_data": "data:x,y"}}]}], "data:TYPE;base64,DATA"),
    ([{"role": "user", "content": [{"type": "text", "text": "x", "name": 3}]}], "name of type int"),
    ([{"role": "user", "content": "x", "provider_data": [1]}], "provider_data of type list"),
    ([{"role": "user", "content": "x", "provider_data": {"$new": 1}}], "key '\\$new', which is not known"),
    ([{"role": "user", "content": "x", "provider_data": {"$bytes": "%"}}], "provider_data that cannot be read"),
    ([{"role": "user", "content": "x", "provider_data": {"$items": 3}}], "not of the right type"),
    ([{"role": "user", "content": "x", "provider_data": {"$int": 3}}], "not of the right type"),
    ([{"role": "user", "content": "x", "name": 3}], "name of type int"),
    ([{"role": "assistant", "tool_calls": 3}], "tool_calls of type int"),
    ([{"role": "assistant", "tool_calls": [{}]}], "without a function name"),
    ([{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": [1]}}]}], "neither a dict nor JSON"),
]


@pytest.mark.parametrize(("conversation", "message"), BAD)
def test_what_is_wrong_is_named(conversation, message):
    with pytest.raises(InvalidParameterError, match=message):
        to_messages(conversation)


def test_documents_of_clients_are_read():
    file = {"filename": "a.pdf", "file_data": "data:application/pdf;base64,YQ=="}
    (message,) = to_messages([{"role": "user", "content": [{"type": "file", "file": file}]}])
    assert message.content == (DocumentPart(b"a", "application/pdf", "a.pdf"),)


def test_the_number_of_the_turn_is_named():
    with pytest.raises(InvalidParameterError, match=r"messages\[1\]"):
        to_messages([{"role": "user", "content": "x"}, {"role": "user", "content": 3}])


def test_other_names_of_roles():
    found = to_messages([{"role": "developer", "content": "a"}, {"role": "human", "content": "b"}])
    assert [message.role for message in found] == ["system", "user"]


def test_parts_of_our_own_are_taken():
    content = [TextPart("a", "a.txt"), DocumentPart(b"x", "application/pdf"), "plain"]
    (message,) = to_messages([{"role": "user", "content": content}])
    assert message.content == (*content[:2], TextPart("plain"))
    assert message.text == "a\n\nplain"


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        ({"a": 1}, ToolCall("1", "f", {"a": 1})),
        ('{"a":1}', ToolCall("1", "f", {"a": 1})),
        ("", ToolCall("1", "f", {})),
        (None, ToolCall("1", "f", {})),
        ('{"a":', ToolCall("1", "f", {}, invalid='{"a":')),
    ],
)
def test_arguments_of_calls(arguments, call):
    turn = {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": arguments}}, call]}
    assert to_messages([turn])[0].tool_calls == (call, call)


BUILT = [
    (Message("bogus", "x"), "use one of system"),
    (Message(["user"], "x"), "use one of system"),
    (Message("user", None), "has no content"),
    (Message("user", 3), "content of type int"),
    (Message("user", (3,)), "neither text, image_url nor file"),
    (Message("user", (TextPart(3),)), "TextPart whose text is of type int"),
    (Message("user", "x", name=3), "name of type int"),
    (Message("assistant", "x", tool_calls=3), "tool_calls of type int"),
    (Message("assistant", "x", tool_calls=("f",)), "without a function name"),
    (Message("assistant", "x", tool_calls=(ToolCall("1", None),)), "without a function name"),
    (Message("tool", "x", tool_call_id=1), "tool_call_id of type int"),
]


@pytest.mark.parametrize(("turn", "message"), BUILT)
def test_messages_that_users_build_are_checked_too(turn, message):
    with pytest.raises(InvalidParameterError, match=message):
        to_messages([turn])


def test_lists_in_a_message_become_tuples():
    (found,) = to_messages([Message("assistant", [TextPart("a"), "b"], tool_calls=[ToolCall("1", "f")])])
    assert found == Message("assistant", (TextPart("a"), TextPart("b")), tool_calls=(ToolCall("1", "f"),))
