"""Requests in Anthropic's Messages format, in both directions."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.errors import InvalidParameterError, InvalidRequestError, UnsupportedFeatureError
from abstractllm.schema import Grammar, to_output_format
from abstractllm.types import (
    DocumentPart,
    GenerateRequest,
    ImagePart,
    Message,
    Part,
    TextPart,
    Timeout,
    ToolCall,
    ToolDefinition,
)
from abstractllm.wire.anthropic import AnthropicMessages, AnthropicQuirks

from .strategies import call_lists, closed_formats, images, texts as any_texts, tools

texts = any_texts.filter(str.strip)  # white space alone is not sent
CODEC = AnthropicMessages()
HELLO = (Message("user", "Hello"),)
CITY = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = ToolDefinition("weather", "Tells the weather.", CITY)
THINKING = {"type": "thinking", "thinking": "Let me see.", "signature": "EqQB=="}
REDACTED = {"type": "redacted_thinking", "data": "Er8C"}


def body_of(*messages: Message, codec: AnthropicMessages = CODEC, **parameters: Any) -> dict[str, Any]:
    return dict(codec.encode_request(GenerateRequest(messages or HELLO, model="m", **parameters)))


def turns_of(*messages: Message) -> Any:
    return body_of(*messages)["messages"]


# Round trips.

documents = st.sampled_from(
    [DocumentPart(b"%PDF-1.7", "application/pdf", "a.pdf"), DocumentPart("é".encode(), "text/plain")]
)
links = st.just(ImagePart(b"", "", url="https://example.org/a.png"))
parts = st.one_of(texts.map(TextPart), images, links, documents)


@st.composite
def contents(draw: st.DrawFn) -> str | tuple[Part, ...]:
    """A text, or parts that are not one text alone."""
    found = tuple(draw(st.lists(parts, min_size=1, max_size=3)))
    return draw(texts) if len(found) == 1 and isinstance(found[0], TextPart) else found


@st.composite
def answers(draw: st.DrawFn) -> Message:
    """An assistant's turn, of text, calls and thinking that some service has signed."""
    calls = draw(call_lists())
    text = draw(texts) if not calls else draw(st.just("") | texts)
    thought = draw(st.sampled_from([(), (THINKING,), (REDACTED,), (THINKING, REDACTED)]))
    said = [{"type": "text", "text": text}] if text else []
    inputs = [call.arguments if call.invalid is None else {"INVALID_JSON": call.invalid} for call in calls]
    called = [
        {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(given)}
        for call, given in zip(calls, inputs, strict=True)
    ]
    kept = {"anthropic": [*thought, *said, *called]} if thought else None
    reasoning = "Let me see." if THINKING in thought else None
    return Message("assistant", text, tool_calls=calls, reasoning=reasoning, provider_data=kept)


@st.composite
def results(draw: st.DrawFn, call: ToolCall) -> Message:
    failed = draw(st.sampled_from([None, {"anthropic": {"is_error": True}}]))
    return Message("tool", draw(st.just("") | contents()), tool_call_id=call.id, provider_data=failed)


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """System, user and assistant in turn; all results of tools right after the calls."""
    found = [Message("system", draw(texts))] if draw(st.booleans()) else []
    found.append(Message("user", draw(contents())))
    for _ in range(draw(st.integers(0, 2))):
        answer = draw(answers())
        found += [answer, *(draw(results(call)) for call in answer.tool_calls)]
        if not answer.tool_calls or draw(st.booleans()):
            found.append(Message("user", draw(contents())))
    return tuple(found)


@st.composite
def requests(draw: st.DrawFn) -> GenerateRequest:
    """A request that the format can say without loss: one with calls has tools."""
    messages = draw(conversations())
    called = any(message.tool_calls for message in messages)
    offered = draw(tools()) or ((WEATHER,) if called else ())
    choices = [None, "auto", "none", "required", offered[0].name] if offered else [None]
    return GenerateRequest(
        messages=messages,
        tools=offered,
        stream=draw(st.booleans()),
        model=draw(st.none() | texts),
        max_tokens=draw(st.integers(1, 10**6)),
        temperature=draw(st.none() | st.floats(0, 1)),
        top_p=draw(st.none() | st.floats(0.01, 1)),
        top_k=draw(st.none() | st.integers(1, 500)),
        stop=tuple(draw(st.lists(texts, max_size=2))),
        tool_choice=draw(st.sampled_from(choices)),
        response_format=draw(st.none() | closed_formats()),
        reasoning=draw(st.sampled_from([None, "none", "low", "medium", "high"])),
        options=draw(st.sampled_from([{}, {"service_tier": "auto"}, {"metadata": {"user_id": "u"}}])),
    )


@settings(max_examples=60)
@given(requests())
def test_what_can_be_said_is_understood(request: GenerateRequest) -> None:
    codec = AnthropicMessages(AnthropicQuirks(reasoning="effort"))
    body = json.loads(json.dumps(codec.encode_request(request)))
    assert codec.decode_request(body) == request


@pytest.mark.parametrize("level", ["none", "low", "medium", "high", None])
def test_a_budget_is_understood_where_there_is_room(level: Any) -> None:
    request = GenerateRequest(HELLO, max_tokens=64000, reasoning=level)
    assert CODEC.decode_request(CODEC.encode_request(request)) == request


# Requests -> bodies.


def test_a_plain_body() -> None:
    assert body_of() == {
        "model": "m",
        "max_tokens": 4096,
        "stream": False,
        "messages": [{"role": "user", "content": "Hello"}],
    }


def test_the_tokens_that_the_format_needs_come_from_the_quirks() -> None:
    assert body_of(codec=AnthropicMessages(AnthropicQuirks(max_tokens=99)))["max_tokens"] == 99
    assert body_of(max_tokens=7)["max_tokens"] == 7


def test_a_model_may_stand_in_the_address_instead() -> None:
    assert "model" not in CODEC.encode_request(GenerateRequest(HELLO))


def test_system_turns_at_the_beginning_become_one() -> None:
    body = body_of(Message("system", "A"), Message("system", ""), Message("system", (TextPart("B"),)), *HELLO)
    assert body["system"] == [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    assert len(body["messages"]) == 1
    assert "system" not in body_of(Message("system", ""), *HELLO)


def test_a_later_system_turn_is_refused() -> None:
    with pytest.raises(UnsupportedFeatureError, match=r"messages\[1\] comes later"):
        body_of(*HELLO, Message("system", "Now in French"))


def test_where_system_turns_may_come_later_they_stay_where_they_are() -> None:
    codec = AnthropicMessages(AnthropicQuirks(later_system=True))
    messages = (Message("system", "A"), *HELLO, Message("system", "B"), Message("assistant", "Hi"), *HELLO)
    body = body_of(*messages, codec=codec)
    assert [turn["role"] for turn in body["messages"]] == ["user", "system", "assistant", "user"]
    assert codec.decode_request(body).messages == messages


def test_an_image_in_a_system_turn_is_refused() -> None:
    with pytest.raises(UnsupportedFeatureError, match="nothing but text in system turns"):
        body_of(Message("system", (TextPart("A"), ImagePart(b"x", "image/png"))), *HELLO)


def test_a_conversation_needs_a_turn() -> None:
    with pytest.raises(InvalidParameterError, match="nothing but system turns"):
        body_of(Message("system", "A"))


def test_turns_of_one_speaker_become_one() -> None:
    found = turns_of(*HELLO, Message("user", "again"), Message("assistant", "A"), Message("assistant", "B"), *HELLO)
    said = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    asked = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "again"}]
    assert [turn["role"] for turn in found] == ["user", "assistant", "user"]
    assert [turn["content"] for turn in found] == [asked, said, "Hello"]


def test_an_empty_turn_is_left_out() -> None:
    found = turns_of(*HELLO, Message("assistant", ""), Message("user", "again"))
    asked = [{"type": "text", "text": "Hello"}, {"type": "text", "text": "again"}]
    assert found == [{"role": "user", "content": asked}]


@pytest.mark.parametrize("blank", ["\n\n", " "])
def test_text_of_white_space_alone_is_none(blank: str) -> None:
    called = Message("assistant", blank, tool_calls=(ToolCall("a", "weather"),))
    block = {"type": "tool_use", "id": "a", "name": "weather", "input": {}}
    result = Message("tool", blank, tool_call_id="a")
    found = turns_of(*HELLO, called, result)
    assert found[1]["content"] == [block]
    assert found[2]["content"] == [{"type": "tool_result", "tool_use_id": "a", "content": blank}]
    assert [turn["role"] for turn in turns_of(*HELLO, Message("assistant", blank), *HELLO)] == ["user"]
    assert "system" not in body_of(Message("system", blank), *HELLO)
    with pytest.raises(InvalidParameterError, match="add a user's"):
        body_of(Message("user", blank))


def test_signed_blocks_go_back_without_texts_of_white_space_alone() -> None:
    called = {"type": "tool_use", "id": "a", "name": "weather", "input": {}}
    blocks = [THINKING, {"type": "text", "text": "\n\n"}, called]
    turn = Message("assistant", "\n\n", tool_calls=(ToolCall("a", "weather"),), provider_data={"anthropic": blocks})
    assert turns_of(*HELLO, turn)[1]["content"] == [THINKING, called]


def test_results_come_first_in_the_turn_after_the_calls() -> None:
    calls = (ToolCall("a", "weather", {"city": "Rome"}), ToolCall("b", "weather"))
    failed = Message("tool", "no such city", tool_call_id="b", provider_data={"anthropic": {"is_error": True}})
    found = turns_of(
        *HELLO,
        Message("assistant", "", tool_calls=calls),
        Message("user", "Well?"),
        Message("tool", (TextPart("sunny"), ImagePart(b"x", "image/png")), tool_call_id="a"),
        failed,
    )
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "eA=="}}
    assert found[1]["content"] == [
        {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Rome"}},
        {"type": "tool_use", "id": "b", "name": "weather", "input": {}},
    ]
    assert found[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "sunny"}, image]},
        {"type": "tool_result", "tool_use_id": "b", "content": "no such city", "is_error": True},
        {"type": "text", "text": "Well?"},
    ]


def test_a_conversation_with_calls_has_tools_though_none_may_be_called() -> None:
    called = Message("assistant", "", tool_calls=(ToolCall("a", "weather"), ToolCall("b", "weather")))
    results = [Message("tool", "sunny", tool_call_id=one) for one in "ab"]
    body = body_of(*HELLO, called, *results)
    assert body["tools"] == [{"name": "weather", "input_schema": {"type": "object"}}]
    assert body["tool_choice"] == {"type": "none"}
    assert body_of(*HELLO, called, *results, tools=(WEATHER,))["tools"][0]["input_schema"] == CITY
    assert "tools" not in body_of(*HELLO)


def test_ids_of_other_services_are_replaced_by_such_as_this_one_takes() -> None:
    called = Message(
        "assistant", "", tool_calls=(ToolCall("functions.weather:0", "weather"), ToolCall("b_-1", "weather"))
    )
    results = [Message("tool", "sunny", tool_call_id=call.id) for call in called.tool_calls]
    _, said, told = turns_of(*HELLO, called, *results)
    ids = [block["id"] for block in said["content"]]
    assert ids == [block["tool_use_id"] for block in told["content"]]
    assert ids[0].isalnum()
    assert ids[1] == "b_-1"


def test_calls_and_results_need_ids() -> None:
    with pytest.raises(InvalidParameterError, match=r"messages\[1\] is a tool's result without tool_call_id"):
        body_of(*HELLO, Message("tool", "sunny", name="weather"))
    with pytest.raises(InvalidParameterError, match=r"messages\[1\] has a tool call without id"):
        body_of(*HELLO, Message("assistant", "", tool_calls=(ToolCall("", "weather"),)))


def test_arguments_that_were_no_json_are_held_as_an_object() -> None:
    call = ToolCall("a", "weather", {}, invalid='{"city": ')
    found = turns_of(*HELLO, Message("assistant", "", tool_calls=(call,)))
    assert found[1]["content"][0]["input"] == {"INVALID_JSON": '{"city": '}


def test_images_and_documents() -> None:
    pdf, note = DocumentPart(b"%PDF", "application/pdf", "a.pdf"), DocumentPart("é".encode(), "text/plain")
    found = turns_of(Message("user", (ImagePart(b"", "", url="https://example.org/a.png"), pdf, note)))
    data = base64.b64encode(b"%PDF").decode()
    assert found[0]["content"] == [
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": data},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "é"}},
    ]
    with pytest.raises(UnsupportedFeatureError, match="application/msword"):
        turns_of(Message("user", (DocumentPart(b"x", "application/msword"),)))
    with pytest.raises(UnsupportedFeatureError, match="user's turns alone"):
        turns_of(*HELLO, Message("assistant", (ImagePart(b"x", "image/png"),)))


def test_tools_and_the_choice_among_them() -> None:
    body = body_of(tools=(WEATHER, replace(WEATHER, name="b", description="")), tool_choice="required")
    assert body["tools"][0] == {
        "name": "weather",
        "description": "Tells the weather.",
        "input_schema": CITY,
    }
    assert "description" not in body["tools"][1]
    assert body["tool_choice"] == {"type": "any"}
    assert body_of(tools=(WEATHER,), tool_choice="weather")["tool_choice"] == {"type": "tool", "name": "weather"}
    assert "tool_choice" not in body_of(tool_choice="auto")


@pytest.mark.parametrize(
    ("options", "choice"),
    [
        ({"tool_choice": "required"}, {"type": "any", "disable_parallel_tool_use": True}),
        ({}, {"type": "auto", "disable_parallel_tool_use": True}),
    ],
)
def test_single_calls_are_part_of_the_choice(options: dict[str, Any], choice: dict[str, Any]) -> None:
    body = body_of(tools=(WEATHER,), options={"disable_parallel_tool_use": True}, **options)
    assert body["tool_choice"] == choice
    assert CODEC.decode_request(body).options == {"disable_parallel_tool_use": True}


def test_reasoning_by_budget_leaves_room_for_the_answer() -> None:
    assert body_of(reasoning="none")["thinking"] == {"type": "disabled"}
    body = body_of(reasoning="medium")
    assert (body["thinking"], body["max_tokens"]) == ({"type": "enabled", "budget_tokens": 8192}, 4096 + 8192)
    assert body_of(reasoning="medium", max_tokens=6000)["thinking"]["budget_tokens"] == 3000
    assert body_of(reasoning="low", max_tokens=1100)["thinking"]["budget_tokens"] == 1024
    with pytest.raises(InvalidParameterError, match="leaves no room to reason"):
        body_of(reasoning="low", max_tokens=1024)


def test_reasoning_by_effort() -> None:
    codec = AnthropicMessages(AnthropicQuirks(reasoning="effort"))
    body = body_of(codec=codec, reasoning="low", max_tokens=10)
    assert (body["thinking"], body["output_config"]) == ({"type": "adaptive"}, {"effort": "low"})
    with pytest.raises(UnsupportedFeatureError, match="cannot ask this model to reason"):
        body_of(codec=AnthropicMessages(AnthropicQuirks(reasoning="none")), reasoning="low")


def test_formats_go_where_the_service_holds_answers_to_them() -> None:
    schema = {
        "type": "object",
        "properties": {"items": {"type": "array", "items": {"$ref": "#/$defs/One"}}, "type": {"type": "string"}},
        "$defs": {"One": {"type": ["object", "null"], "properties": {"a": {"anyOf": [{"type": "null"}]}}}},
    }
    sent = body_of(response_format=to_output_format(schema))["output_config"]["format"]
    assert sent["type"] == "json_schema"
    assert sent["schema"]["additionalProperties"] is False
    assert sent["schema"]["$defs"]["One"]["additionalProperties"] is False
    assert sent["schema"]["properties"] == schema["properties"]
    without = AnthropicMessages(AnthropicQuirks(json_output=False))
    with pytest.raises(UnsupportedFeatureError, match="response_format|format of kind 'json'"):
        body_of(codec=without, response_format=to_output_format(schema))
    with pytest.raises(UnsupportedFeatureError, match="format of kind 'grammar'"):
        body_of(response_format=to_output_format(Grammar('start: "a"')))


@pytest.mark.parametrize("inner", [{"type": "object"}, {"type": "object", "additionalProperties": {"type": "string"}}])
def test_objects_of_any_properties_are_refused(inner: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": inner}}
    with pytest.raises(UnsupportedFeatureError, match="closed objects only"):
        body_of(response_format=to_output_format(schema))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_p", 0.1),
        ("seed", 1),
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 2),
        ("logit_bias", {1: 2.0}),
        ("presence_penalty", 1.0),
        ("frequency_penalty", 1.0),
        ("repetition_penalty", 1.1),
        ("deterministic", True),
        ("priority", 1),
    ],
)
def test_what_the_format_cannot_say_is_refused(name: str, value: object) -> None:
    with pytest.raises(UnsupportedFeatureError, match=f"no place for the parameter '{name}'") as caught:
        body_of(**{name: value})
    assert caught.value.feature == name


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
def test_models_that_draw_their_own_way_refuse_to_be_told(name: str) -> None:
    with pytest.raises(UnsupportedFeatureError, match=f"no place for the parameter '{name}'"):
        body_of(codec=AnthropicMessages(AnthropicQuirks(sampling=False)), **{name: 1})


def test_what_is_done_elsewhere_is_no_part_of_the_body() -> None:
    assert body_of(timeout=Timeout(total=3.0), retries=2) == body_of()


def test_names_of_speakers_are_refused() -> None:
    with pytest.raises(UnsupportedFeatureError, match=r"name of messages\[0\]"):
        body_of(Message("user", "Hello", name="Ann"))


def test_options_are_merged_and_may_not_say_a_thing_twice() -> None:
    codec = AnthropicMessages(AnthropicQuirks(reasoning="effort"))
    body = body_of(codec=codec, reasoning="low", options={"service_tier": "auto", "output_config": {"task_budget": 9}})
    assert body["service_tier"] == "auto"
    assert body["output_config"] == {"effort": "low", "task_budget": 9}
    for options in ({"output_config": {"effort": "max"}}, {"max_tokens": 3}):
        with pytest.raises(InvalidParameterError, match="which the request says already"):
            body_of(codec=codec, reasoning="low", options=options)


# Signed thinking.


def test_signed_blocks_go_back_unchanged_and_in_order() -> None:
    second = {"type": "thinking", "thinking": "And now?", "signature": "Zz=="}
    said = {"type": "text", "text": "Hm.", "citations": None}
    called = {"type": "tool_use", "id": "a", "name": "weather", "input": {}}
    blocks = [THINKING, said, REDACTED, second, called]
    turn = Message("assistant", "Hm.", tool_calls=(ToolCall("a", "weather"),), provider_data={"anthropic": blocks})
    assert turns_of(*HELLO, turn)[1]["content"] == blocks


def test_of_a_changed_turn_thinking_goes_back_first() -> None:
    blocks = [THINKING, {"type": "text", "text": "Hm."}, {"type": "server_tool_use", "id": "s"}, REDACTED]
    turn = Message("assistant", "Changed.", provider_data={"anthropic": blocks})
    assert turns_of(*HELLO, turn)[1]["content"] == [THINKING, REDACTED, {"type": "text", "text": "Changed."}]


def test_thinking_without_signature_stays_out() -> None:
    turn = Message("assistant", "Hi.", reasoning="Greet.", provider_data={"other": [1]})
    assert turns_of(*HELLO, turn)[1]["content"] == [{"type": "text", "text": "Hi."}]


# Bodies -> requests.


def decoded(**fields: Any) -> GenerateRequest:
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}], **fields}
    return CODEC.decode_request(body)


def test_unknown_fields_are_options_for_the_server_to_judge() -> None:
    found = decoded(metadata={"user_id": "u"}, output_config={"effort": "max"}, top_k=None)
    assert found.options == {"metadata": {"user_id": "u"}, "output_config": {"effort": "max"}}


def test_how_thinking_is_shown_is_an_option() -> None:
    found = decoded(thinking={"type": "adaptive", "display": "omitted"})
    assert (found.reasoning, found.options) == ("high", {"thinking": {"display": "omitted"}})
    codec = AnthropicMessages(AnthropicQuirks(reasoning="effort"))
    assert codec.encode_request(found)["thinking"] == {"type": "adaptive", "display": "omitted"}


def test_marks_for_caching_are_left_out() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    system = [{"type": "text", "text": "A", **mark}, {"type": "text", "text": "B"}]
    found = decoded(system=system, tools=[{"name": "t", "input_schema": {"type": "object"}, **mark}])
    assert found.messages[0] == Message("system", (TextPart("A"), TextPart("B")))
    assert found.tools[0].name == "t"


def test_results_come_before_what_the_user_says() -> None:
    result = {"type": "tool_result", "tool_use_id": "a"}
    blocks = [{"type": "text", "text": "Well?"}, result, {**result, "content": None, "is_error": True}]
    found = decoded(messages=[{"role": "user", "content": blocks}]).messages
    assert [message.role for message in found] == ["tool", "tool", "user"]
    assert found[1].provider_data == {"anthropic": {"is_error": True}}
    assert found[2].content == "Well?"


def test_an_assistants_texts_stay_apart() -> None:
    blocks = [{"type": "text", "text": "A"}, {"type": "text", "text": "B"}]
    unsigned = {"type": "thinking", "thinking": "Hm.", "signature": ""}
    found = decoded(messages=[{"role": "assistant", "content": [unsigned, *blocks]}]).messages
    assert found == (Message("assistant", (TextPart("A"), TextPart("B")), reasoning="Hm."),)


@pytest.mark.parametrize(
    ("thinking", "level"),
    [
        ({"type": "enabled", "budget_tokens": 1024}, "low"),
        ({"type": "enabled", "budget_tokens": 5000}, "medium"),
        ({"type": "enabled", "budget_tokens": 30000}, "high"),
        ({"type": "adaptive"}, "high"),
        ({"type": "between_tools"}, "high"),
        ({"type": "disabled"}, "none"),
        (None, None),
    ],
)
def test_how_much_to_think(thinking: object, level: str | None) -> None:
    assert decoded(thinking=thinking).reasoning == level


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": "Hello"}, "messages"),
        ({"messages": [{"role": "tool", "content": "A"}]}, "role"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "'video'"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "text"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_use_id"),
        ({"messages": [{"role": "assistant", "content": [{"type": "text"}]}]}, "text"),
        ({"max_tokens": "9"}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"tools": [{"name": "bash", "type": "bash_20250124"}]}, "bash_20250124"),
        ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, "a b"),
        ({"tool_choice": {"type": "tool"}}, "name the tool"),
        ({"output_config": {"format": {"type": "xml", "schema": {}}}}, "type"),
        ({"system": [{"type": "image", "source": {"type": "url", "url": "x"}}]}, "not text"),
    ],
)
def test_what_is_no_request_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        decoded(**fields)


@pytest.mark.parametrize("source", [{"type": "file", "file_id": "f"}, {"type": "base64", "data": "é"}])
def test_sources_that_cannot_be_read_are_refused(source: dict[str, Any]) -> None:
    with pytest.raises((UnsupportedFeatureError, InvalidRequestError), match="read here|not valid base64"):
        decoded(messages=[{"role": "user", "content": [{"type": "document", "source": source}]}])
