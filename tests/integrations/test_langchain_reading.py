"""LangChain's messages and blocks of content as our messages."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.messages.content import create_file_block, create_image_block, create_plaintext_block

from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError
from abstractllm.integrations.langchain.reading import to_messages
from abstractllm.integrations.langchain.writing import to_message
from abstractllm.types import DocumentPart, GenerateResponse, ImagePart, Message, TextPart, ToolCall

DATA = b"\x89PNG"
CODE = base64.b64encode(DATA).decode()
URL = "https://example.org/cat.png"
PDF = "application/pdf"
SEEN = ImagePart(DATA, "image/png")
LINKED = ImagePart(b"", "", url=URL)


@pytest.mark.parametrize(
    ("given_message", "role"),
    [
        (HumanMessage("Hi"), "user"),
        (HumanMessageChunk(content="Hi"), "user"),
        (SystemMessage("Hi"), "system"),
        (AIMessage("Hi"), "assistant"),
        (AIMessageChunk(content="Hi"), "assistant"),
        (ChatMessage("Hi", role="user"), "user"),
        (ChatMessage("Hi", role="developer"), "system"),
        (ChatMessage("Hi", role="assistant"), "assistant"),
    ],
)
def test_roles(given_message: BaseMessage, role: Any) -> None:
    assert to_messages([given_message]) == (Message(role, "Hi"),)


@pytest.mark.parametrize("message", [ChatMessage("Hi", role="judge"), RemoveMessage(id="1")])
def test_an_unknown_role_is_refused(message: BaseMessage) -> None:
    with pytest.raises(InvalidParameterError, match=r"messages\[1\]"):
        to_messages([HumanMessage("Hi"), message])


def test_results_of_tools() -> None:
    assert to_messages([ToolMessage("20", tool_call_id="a", name="t")]) == (
        Message("tool", "20", name="t", tool_call_id="a"),
    )
    assert to_messages([FunctionMessage("20", name="t")]) == (Message("tool", "20", name="t", tool_call_id="t"),)
    listed = ToolMessage([{"type": "text", "text": "20"}], tool_call_id="a", status="error")
    assert to_messages([listed]) == (Message("tool", "20", tool_call_id="a"),)


def test_a_name_stays() -> None:
    assert to_messages([HumanMessage("Hi", name="ana")])[0].name == "ana"


def test_calls_of_an_answer() -> None:
    message = AIMessage(
        [{"type": "text", "text": "So: "}, {"type": "tool_use", "id": "a", "name": "t", "input": {"x": 1}}, "ok"],
        tool_calls=[{"name": "t", "args": {"x": 1}, "id": "a"}],
        invalid_tool_calls=[{"name": "t", "args": "{", "id": "b", "error": None, "type": "invalid_tool_call"}],
    )
    assert to_messages([message]) == (
        Message("assistant", "So: ok", tool_calls=(ToolCall("a", "t", {"x": 1}), ToolCall("b", "t", {}, invalid="{"))),
    )


@pytest.mark.parametrize(
    "block",
    [
        {"type": "thinking", "thinking": "Hmm.", "signature": "x"},
        {"type": "reasoning", "reasoning": "Hmm."},
    ],
)
def test_what_an_answer_thought(block: dict[str, Any]) -> None:
    assert to_messages([AIMessage([block, {"type": "text", "text": "Yes."}])]) == (
        Message("assistant", "Yes.", reasoning="Hmm."),
    )


def test_a_result_in_a_users_turn_becomes_a_turn() -> None:
    turn = HumanMessage(
        [{"type": "tool_result", "tool_use_id": "a", "content": "20"}, {"type": "text", "text": "And now?"}]
    )
    assert to_messages([turn]) == (Message("tool", "20", tool_call_id="a"), Message("user", "And now?"))


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "image_url", "image_url": {"url": URL}}, LINKED),
        ({"type": "image_url", "image_url": URL}, LINKED),
        ({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{CODE}"}}, SEEN),
        (dict(create_image_block(url=URL)), LINKED),
        (dict(create_image_block(base64=CODE, mime_type="image/png")), SEEN),
        ({"type": "image", "source_type": "base64", "data": CODE, "mime_type": "image/png"}, SEEN),
        ({"type": "image", "source_type": "url", "url": URL}, LINKED),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": CODE}}, SEEN),
        ({"type": "image", "source": {"type": "url", "url": URL}}, LINKED),
        (dict(create_file_block(base64=CODE, mime_type=PDF)), DocumentPart(DATA, PDF)),
        (
            {
                "type": "file",
                "source_type": "base64",
                "data": CODE,
                "mime_type": PDF,
                "filename": "a.pdf",
            },
            DocumentPart(DATA, PDF, "a.pdf"),
        ),
        (
            {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{CODE}", "filename": "a.pdf"}},
            DocumentPart(DATA, PDF, "a.pdf"),
        ),
        (
            {"type": "document", "source": {"type": "base64", "media_type": PDF, "data": CODE}},
            DocumentPart(DATA, PDF),
        ),
        (
            dict(create_file_block(url="https://example.org/a.pdf")),
            DocumentPart(b"", PDF, url="https://example.org/a.pdf"),
        ),
        (dict(create_plaintext_block(text="a,b", title="t.csv")), TextPart("a,b", "t.csv")),
        (
            {"type": "file", "base64": base64.b64encode(b"a,b").decode(), "mime_type": "text/csv", "name": "t.csv"},
            TextPart("a,b", "t.csv"),
        ),
        ({"type": "document", "source": {"type": "text", "data": "a,b"}, "title": "t"}, TextPart("a,b", "t")),
    ],
)
def test_images_and_files(block: dict[str, Any], expected: Any) -> None:
    (message,) = to_messages([HumanMessage([{"type": "text", "text": "See:"}, block])])
    if isinstance(expected, TextPart) and expected.name is None:
        assert isinstance(message.content, str)
    else:
        assert message.content == (TextPart("See:"), expected)


@pytest.mark.parametrize(
    "block", [{"type": "audio", "base64": CODE}, {"type": "video", "url": URL}, {"type": "input_audio"}]
)
def test_sound_and_moving_pictures_are_refused(block: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFeatureError, match=r"messages\[0\]"):
        to_messages([HumanMessage([block])])
    with pytest.raises(UnsupportedFeatureError, match="id"):
        to_messages([HumanMessage([{"type": "file", "file": {"file_id": "f-1"}}])])


@pytest.mark.parametrize(
    "block",
    [
        {"type": "hologram"},
        {"type": "image"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,?"}},
        {"type": "image_url", "image_url": {"url": "cat.png"}},
        {"no": "type"},
    ],
)
def test_what_is_not_understood_is_refused(block: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameterError, match=r"messages\[0\]"):
        to_messages([HumanMessage([block])])
    with pytest.raises(InvalidParameterError, match=r"messages\[0\]"):
        to_messages([AIMessage([block])])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.builds(
    ToolCall, st.text("abc", min_size=1), st.text("xyz", min_size=1), st.dictionaries(st.text(max_size=5), VALUES)
)


@given(
    st.builds(
        GenerateResponse,
        content=st.text(max_size=20),
        reasoning=st.text(max_size=20),
        tool_calls=st.lists(CALLS, max_size=2).map(tuple),
        finish_reason=st.just("stop"),
    )
)
def test_an_answer_comes_back_as_it_went_out(answer: GenerateResponse) -> None:
    (turn,) = to_messages([to_message(answer, "echo", "m")])
    assert turn == answer.to_message()
