"""The Responses API: requests and whole answers there and back, and streams cut at every byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.accumulator import join
from abstractllm.errors import (
    ContentFilterError,
    GenerationError,
    InvalidRequestError,
    ProviderAPIError,
    ProviderConnectionError,
    QuotaExceededError,
    UnsupportedFeatureError,
)
from abstractllm.schema import Regex, to_output_format
from abstractllm.types import (
    GenerateRequest,
    GenerateResponse,
    ImagePart,
    Message,
    TextPart,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolDefinition,
    Usage,
)
from abstractllm.wire.openai_responses import OpenAIResponses, ResponsesQuirks

from . import samples
from .streams import at_every_cut, until_error, whole

USER = (Message("user", "Hi"),)
PLAIN = OpenAIResponses(provider="acme")
OTHER = OpenAIResponses(ResponsesQuirks(system="developer", encrypted_reasoning=False, summary="auto"))
NEW = PLAIN.stream_decoder

THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"}

others = st.one_of(
    st.builds(Message, st.just("system"), samples.texts | samples.text_parts),
    st.builds(Message, st.just("user"), samples.texts | samples.user_parts),
    st.builds(Message, st.just("tool"), samples.texts | samples.user_parts, tool_call_id=samples.names),
)


@st.composite
def assistants(draw: st.DrawFn) -> Message:
    """Return an assistant's turn, perhaps with reasoning in the order in which the service gave it."""
    calls = tuple(draw(st.lists(samples.calls, max_size=2, unique_by=lambda call: call.id)))
    content = draw(samples.words | samples.text_parts.filter(bool)) if not calls or draw(st.booleans()) else ""
    order: list[dict[str, Any]] = [{"type": "message"}] if content else []
    order += [{"type": "function_call", "call_id": call.id} for call in calls]
    if not draw(st.booleans()):
        return Message("assistant", content, tool_calls=calls)
    order.insert(draw(st.integers(0, len(order) - 1)), THOUGHT)
    return Message("assistant", content, tool_calls=calls, provider_data={"openai_responses": order})


OPTIONS = {"store": True, "include": ["x"], "text": {"verbosity": "low"}}


@st.composite
def requests(draw: st.DrawFn) -> GenerateRequest:
    turns: list[Message] = []
    for _ in range(draw(st.integers(1, 3))):  # two turns of the assistant that follow each other are one
        turns += [draw(others), *([draw(assistants())] if draw(st.booleans()) else [])]
    offered = draw(samples.tools)
    return GenerateRequest(
        tuple(turns),
        tools=offered,
        stream=draw(st.booleans()),
        model=draw(st.none() | samples.words),
        max_tokens=draw(st.none() | st.integers(1, 10**6)),
        temperature=draw(samples.optional(0, 2)),
        top_p=draw(samples.optional(0.01, 1)),
        logprobs=draw(st.booleans()),
        top_logprobs=draw(st.none() | st.integers(0, 20)),
        tool_choice=draw(samples.choices if offered else samples.forced),
        response_format=draw(samples.formats),
        reasoning=draw(samples.efforts),
        options=draw(st.sampled_from([{}, {"user": "u"}, OPTIONS])),
    )


def through_json(body: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(body))


@settings(max_examples=40)
@given(requests())
def test_requests_come_back_as_they_were(request: GenerateRequest) -> None:
    for codec in (PLAIN, OTHER):
        assert codec.decode_request(through_json(codec.encode_request(request))) == request


answers = samples.answers(several=False, drafted=False, stops=False)


@settings(max_examples=40)
@given(answers)
def test_answers_come_back_as_they_were(answer: GenerateResponse) -> None:
    body = json.dumps(PLAIN.encode_response(answer)).encode()
    found = PLAIN.decode_response(body)
    assert found == answer
    assert found.raw_response == json.loads(body)


@settings(max_examples=40)
@given(answers, st.integers(1, 5), st.integers(1, 400))
def test_streams_join_to_the_answer(answer: GenerateResponse, size: int, cut: int) -> None:
    encoder = PLAIN.stream_encoder(GenerateRequest(USER, stream=True))
    data = b"".join(map(encoder.encode, samples.deltas_of(answer, size))) + encoder.end()
    deltas, error = until_error(NEW(), samples.pieces_of(data, cut))
    assert error is None
    assert join(deltas) == answer


@settings(max_examples=40)
@given(answers, st.integers(1, 5))
def test_the_end_of_a_stream_holds_the_whole_answer(answer: GenerateResponse, size: int) -> None:
    encoder = PLAIN.stream_encoder(GenerateRequest(USER, stream=True))
    for delta in samples.deltas_of(answer, size):
        encoder.encode(delta)
    last = json.loads(encoder.end().rsplit(b"data: ", 1)[1])
    assert PLAIN.decode_response(json.dumps(last["response"]).encode()) == answer


def test_signed_reasoning_goes_there_and_back_in_its_place() -> None:
    order = [THOUGHT, {"type": "message"}, {**THOUGHT, "id": "rs_2"}, {"type": "function_call", "call_id": "c"}]
    answer = GenerateResponse(
        "a",
        tool_calls=(ToolCall("c", "f", {}),),
        finish_reason="tool_calls",
        model="m",
        provider_data={"openai_responses": order},
    )
    assert PLAIN.decode_response(json.dumps(PLAIN.encode_response(answer)).encode()) == answer
    encoder = PLAIN.stream_encoder(GenerateRequest(USER, stream=True))
    data = b"".join(map(encoder.encode, samples.deltas_of(answer, 3))) + encoder.end()
    assert join(until_error(NEW(), [data])[0]) == answer
    items = PLAIN.encode_request(GenerateRequest((*USER, answer.to_message())))["input"]
    assert [item["type"] for item in items] == ["message", "reasoning", "message", "reasoning", "function_call"]
    assert items[1] == THOUGHT


def test_a_request_as_openai_documents_it() -> None:
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    request = GenerateRequest(
        (
            Message("system", "Be brief."),
            Message("user", (TextPart("See"), ImagePart(b"", "", url="https://example.org/a.png"))),
            Message("assistant", "Hm", tool_calls=(ToolCall("c1", "f", {"a": 1}),), reasoning="not sent"),
            Message("tool", "42", tool_call_id="c1"),
        ),
        tools=(ToolDefinition("f", "Does.", schema),),
        model="gpt",
        max_tokens=50,
        logprobs=True,
        top_logprobs=2,
        tool_choice="f",
        reasoning="low",
        response_format=to_output_format({"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}),
    )
    assert PLAIN.encode_request(request) == {
        "model": "gpt",
        "store": False,
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "input": [
            {"type": "message", "role": "system", "content": "Be brief."},
            {
                "type": "message",
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "See"},
                    {"type": "input_image", "image_url": "https://example.org/a.png"},
                ],
            },
            {"type": "message", "role": "assistant", "content": "Hm"},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "42"},
        ],
        "tools": [{"type": "function", "name": "f", "description": "Does.", "parameters": schema, "strict": False}],
        "tool_choice": {"type": "function", "name": "f"},
        "max_output_tokens": 50,
        "top_logprobs": 2,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}},
    }


@pytest.mark.parametrize(
    ("given", "feature"),
    [
        ({"stop": ("a",)}, "stop"),
        ({"n": 2}, "n"),
        ({"seed": 1}, "seed"),
        ({"logit_bias": {1: 2.0}}, "logit_bias"),
        ({"presence_penalty": 0.0}, "presence_penalty"),
        ({"top_k": 1}, "top_k"),
        ({"deterministic": True}, "deterministic"),
        ({"response_format": to_output_format(Regex("a"))}, "response_format"),
        ({"messages": (Message("user", "Hi", name="Ann"),)}, "messages"),
        ({"messages": (Message("assistant", (ImagePart(b"x", "image/png"),)),)}, "vision"),
    ],
)
def test_what_cannot_be_said_is_refused(given: dict[str, Any], feature: str) -> None:
    with pytest.raises(UnsupportedFeatureError) as caught:
        PLAIN.encode_request(GenerateRequest(**{"messages": USER, **given}))
    assert caught.value.feature == feature


def test_quirks_refuse_efforts() -> None:
    codec = OpenAIResponses(ResponsesQuirks(efforts=frozenset({"low", "high"})))
    with pytest.raises(UnsupportedFeatureError, match="high, low"):
        codec.encode_request(GenerateRequest(USER, reasoning="none"))


def test_several_answers_cannot_be_encoded() -> None:
    answer = GenerateResponse("a", choices=(GenerateResponse("a"), GenerateResponse("b", choice=1)))
    encoder = PLAIN.stream_encoder(GenerateRequest(USER))
    for act in (PLAIN.encode_response, encoder.encode):
        with pytest.raises(UnsupportedFeatureError):
            act(answer)


def test_a_client_may_write_things_in_other_ways() -> None:
    request = PLAIN.decode_request(
        {
            "model": "m",
            "instructions": "Brief.",
            "input": [
                {"role": "user", "content": "Hi"},
                {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
                {"role": "assistant", "content": [TEXT, {"type": "refusal", "refusal": "b"}]},
                {"role": "assistant", "content": "c"},
                {"type": "function_call", "call_id": "x", "name": "f", "arguments": "{oops"},
                {"type": "function_call_output", "call_id": "x", "output": [{"type": "input_text", "text": "d"}]},
            ],
            "store": True,
            "reasoning": {"effort": None, "summary": "detailed"},
            "text": {"format": {"type": "text"}, "verbosity": "low"},
            "include": ["file_search_call.results"],
            "previous_response_id": "resp_1",
        }
    )  # fmt: skip
    assert request.messages == (
        Message("system", "Brief."),
        Message("user", "Hi"),
        Message("assistant", (TextPart("a"), TextPart("b")), reasoning="hm"),
        Message("assistant", "c", tool_calls=(ToolCall("x", "f", {}, invalid="{oops"),)),
        Message("tool", (TextPart("d"),), tool_call_id="x"),
    )
    assert request.options == {
        "store": True,
        "reasoning": {"summary": "detailed"},
        "text": {"verbosity": "low"},
        "include": ["file_search_call.results"],
        "previous_response_id": "resp_1",
    }
    assert PLAIN.decode_request({"input": "Hi"}).messages == USER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": None}, "input"),
        ({"input": [3]}, r"input\[0\]"),
        ({"input": [{"type": "web_search_call"}]}, r"input\[0\]"),
        ({"input": [{"role": "user"}]}, r"input\[0\]"),
        ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, r"input\[0\]"),
        ({"instructions": 3}, "instructions"),
        ({"stream": "yes"}, "stream"),
        ({"max_output_tokens": 0}, "max_tokens"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": {"type": "function"}}, "tools"),
        ({"text": {"format": {"type": "grammar"}}}, "response_format"),
    ],
)
def test_bad_requests_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        PLAIN.decode_request({"model": "m", "input": "Hi", **change})


# Whole answers, as services write them.


def answer(*output: dict[str, Any], **more: Any) -> GenerateResponse:
    return PLAIN.decode_response(json.dumps({"status": "completed", "output": output, **more}).encode())


def said(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": parts}


TEXT = {"type": "output_text", "text": "a", "annotations": []}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "stop"),
        ({"status": None}, "stop"),
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, "length"),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "content_filter"),
        ({"status": "cancelled"}, "cancelled"),
    ],
)
def test_reasons_to_end(more: dict[str, Any], expected: str) -> None:
    found = answer(said(TEXT), **more)
    assert (found.content, found.finish_reason) == ("a", expected)


def test_everything_in_an_answer_is_read() -> None:
    found = answer(
        {"type": "reasoning", "id": "r", "summary": [{"text": "One"}, {"text": ""}, {"text": "Two"}]},
        {"type": "web_search_call", "id": "w"},
        said({**TEXT, "logprobs": [{"token": "a", "logprob": -1.0}]}, {"type": "refusal", "refusal": "No"}),
        {"type": "function_call", "name": "f", "arguments": ""},
        model="m",
        usage={
            "input_tokens": 5,
            "output_tokens": 7,
            "input_tokens_details": {"cached_tokens": 2},
            "output_tokens_details": {"reasoning_tokens": 3},
        },
    )
    assert found == GenerateResponse(
        "aNo",
        "One\n\nTwo",
        (ToolCall("call_0", "f", {}),),
        finish_reason="content_filter",
        usage=Usage(5, 7, 2, 3),
        model="m",
        logprobs=(TokenLogprob("a", -1.0, b"a"),),
    )


def test_failures_instead_of_answers() -> None:
    with pytest.raises(QuotaExceededError):
        answer(status="failed", error={"code": "rate_limit_exceeded", "message": "Slow"})
    with pytest.raises(ProviderAPIError):
        answer(status="failed")
    with pytest.raises(GenerationError, match="background"):
        answer(status="queued")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"output":3}', b'{"output":[3]}', b"<html>"])
def test_what_is_no_answer_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(GenerationError, match="no answer"):
        PLAIN.decode_response(body)


# Streams.


def stream(*events: dict[str, Any], named: bool = True) -> bytes:
    data = ""
    for event in events:
        name = f"event: {event['type']}\n" if named else ""
        data += f"{name}data: {json.dumps(event, ensure_ascii=False)}\n\n"
    return data.encode()


def added(place: int, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.added", "output_index": place, "item": item}


def done(place: int, **item: Any) -> dict[str, Any]:
    return {"type": "response.output_item.done", "output_index": place, "item": item}


def text(delta: str, place: int = 0) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "item_id": "msg", "output_index": place, "delta": delta}


def piece(delta: str, **more: Any) -> dict[str, Any]:
    return {"type": "response.function_call_arguments.delta", "delta": delta, **more}


def end(kind: str = "completed", **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "response": {"status": kind, "model": "m", "output": [], **more}}


CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "weather"}
THINKING = {
    "type": "response.reasoning_summary_text.delta",
    "item_id": "rs_1",
    "output_index": 0,
}

OPENAI = stream(
    {
        "type": "response.created",
        "sequence_number": 0,
        "response": {"id": "resp_1", "status": "in_progress", "output": []},
    },
    {"type": "response.in_progress", "response": {"id": "resp_1", "status": "in_progress"}},
    added(0, id="rs_1", type="reasoning", summary=[]),
    {"type": "response.reasoning_summary_part.added", "output_index": 0, "summary_index": 0},
    {**THINKING, "summary_index": 0, "delta": "**Plan**"},
    {**THINKING, "summary_index": 0, "delta": "\n\nGo"},
    {**THINKING, "summary_index": 1, "delta": "Then"},
    done(0, **THOUGHT),
    added(1, id="msg", type="message", status="in_progress", content=[], role="assistant"),
    {"type": "response.content_part.added", "output_index": 1, "part": {"type": "output_text", "text": ""}},
    {**text("Grüße", 1), "logprobs": [{"token": "Grüße", "logprob": -0.5, "top_logprobs": []}], "obfuscation": "x"},
    {**text(" 🌍", 1), "logprobs": []},
    {"type": "response.output_text.done", "output_index": 1, "text": "Grüße 🌍"},
    done(1, type="message", id="msg", content=[{**TEXT, "text": "Grüße 🌍"}]),
    added(2, **CALL, arguments=""),
    piece('{"ci', item_id="fc_1", output_index=2),
    piece('ty":1}', item_id="fc_1", output_index=2),
    {"type": "response.function_call_arguments.done", "item_id": "fc_1", "output_index": 2, "arguments": '{"city":1}'},
    done(2, **CALL, arguments='{"city":1}'),
    end(usage={"input_tokens": 9, "output_tokens": 8, "output_tokens_details": {"reasoning_tokens": 4}}),
)


def test_a_stream_says_the_same_wherever_its_bytes_are_cut() -> None:
    deltas = whole(NEW, OPENAI)
    order = [THOUGHT, {"type": "message"}, {"type": "function_call", "call_id": "call_1"}]
    assert join(deltas) == GenerateResponse(
        "Grüße 🌍",
        "**Plan**\n\nGo\n\nThen",
        (ToolCall("call_1", "weather", {"city": 1}),),
        finish_reason="tool_calls",
        usage=Usage(9, 8, 0, 4),
        model="m",
        logprobs=(TokenLogprob("Grüße", -0.5, "Grüße".encode()),),
        provider_data={"openai_responses": order},
    )
    assert [call for delta in deltas for call in delta.tool_call_deltas] == [
        ToolCallDelta(0, "call_1", "weather"),
        ToolCallDelta(0, arguments='{"ci'),
        ToolCallDelta(0, arguments='ty":1}'),
    ]


def test_the_type_may_stand_in_the_name_of_the_event_alone() -> None:
    nameless = stream(text("a"), end(), named=False)
    assert join(whole(NEW, nameless)).content == "a"
    last = json.dumps({"response": {"status": "completed"}})
    data = f'event: response.output_text.delta\ndata: {{"delta":"a"}}\n\nevent: response.completed\ndata: {last}\n\n'
    assert join(whole(NEW, data.encode())) == GenerateResponse("a", finish_reason="stop")


def calls(*events: dict[str, Any]) -> tuple[ToolCall, ...]:
    answer = join(whole(NEW, stream(*events, end())))
    assert answer.finish_reason == "tool_calls"
    return answer.tool_calls


ARGUMENTS = {"type": "response.function_call_arguments.done"}
WEATHER = ToolCall("call_1", "weather", {"a": 1})


@pytest.mark.parametrize(
    "events",
    [
        (added(0, **CALL, arguments='{"a":1}'), done(0, **CALL, arguments='{"a":1}')),
        (added(0, **CALL), done(0, **CALL, arguments='{"a":1}')),
        (added(0, **CALL), done(0, **CALL, arguments={"a": 1})),
        (done(0, **CALL, arguments='{"a":1}'),),
        (added(0, **CALL), {**ARGUMENTS, "output_index": 0, "arguments": '{"a":1}'}),
        (added(0, **CALL), piece('{"a"', output_index=0), piece(":1}", output_index=0)),
        (added(0, **CALL), piece('{"a":1}', item_id="fc_1")),
        (added(0, **CALL), piece('{"a":1}', output_index=0, item_id="changed"), done(0, **{**CALL, "id": "again"})),
        ({"type": "response.output_item.added", "item": CALL}, piece('{"a":1}', item_id="fc_1")),
        (piece('{"a":1}', output_index=0), done(0, **CALL, arguments='{"a":1}')),
    ],
)  # fmt: skip
def test_a_call_may_come_in_many_ways(events: tuple[dict[str, Any], ...]) -> None:
    assert calls(*events) == (WEATHER,)


def test_calls_may_interleave() -> None:
    other = {**CALL, "id": "fc_2", "call_id": "call_2"}
    assert calls(
        added(0, **CALL),
        added(1, **other),
        piece('{"a":', output_index=0),
        piece("{}", output_index=1),
        piece("1}", output_index=0),
    ) == (WEATHER, ToolCall("call_2", "weather", {}))


def test_an_answer_may_come_at_the_end_alone() -> None:
    output = [said(TEXT), {**CALL, "arguments": '{"a":1}'}]
    found = join(whole(NEW, stream(end(output=output))))
    assert found == GenerateResponse("a", tool_calls=(WEATHER,), finish_reason="tool_calls", model="m")


def test_an_answer_that_came_in_pieces_is_not_told_twice() -> None:
    assert join(whole(NEW, stream(text("a"), end(output=[said(TEXT)])))).content == "a"


@pytest.mark.parametrize("kind", ["response.reasoning_text.delta", "response.reasoning_summary_text.delta"])
def test_reasoning_is_summarised_or_not(kind: str) -> None:
    events = ({"type": kind, "output_index": 0, "delta": piece} for piece in ("a", "", "b"))
    assert join(whole(NEW, stream(*events, end()))).reasoning == "ab"


def test_a_refusal_is_the_content_of_a_filtered_answer() -> None:
    found = join(whole(NEW, stream({"type": "response.refusal.delta", "delta": "No."}, end())))
    assert (found.content, found.finish_reason) == ("No.", "content_filter")


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        (end("incomplete", incomplete_details={"reason": "max_output_tokens"}), "length"),
        (end("incomplete", incomplete_details={"reason": "content_filter"}), "content_filter"),
        (end("cancelled"), "cancelled"),
    ],
)
def test_ends_of_streams(last: dict[str, Any], expected: str) -> None:
    assert join(whole(NEW, stream(text("a"), last))).finish_reason == expected


def test_unknown_events_and_another_format_s_end_marker_are_ignored() -> None:
    strange = {"type": "response.new.delta", "delta": {"x": 1}, "item": 3, "arguments": [], "response": "y"}
    data = b": keepalive\n\n" + stream(strange, text("a"), text("")) + b"data: [DONE]\n\n" + stream(end())
    assert join(whole(NEW, data + b"data: {oops\n\n")).content == "a"


GOOD = stream(text("a"), end())


def test_a_stream_without_its_end_was_cut_off() -> None:
    for place in range(len(GOOD) - 3):  # the last byte and the blank line are not missed
        _, error = until_error(NEW(), [GOOD[:place]])
        assert isinstance(error, ProviderConnectionError), place
        assert error.provider == "acme"


@pytest.mark.parametrize("bad", [b"{oops", b'"text"', b"[1]", b'{"type":7}', b'{"type":"","delta":"\xff"}'])
def test_what_is_no_event_is_an_error(bad: bytes) -> None:
    deltas, error = at_every_cut(NEW, stream(text("a")) + b"data: " + bad + b"\n\n" + GOOD)
    assert type(error) is GenerationError
    assert [delta.content for delta in deltas] == ["a"]
    _, error = until_error(NEW(), [stream(text("a")) + b"data: " + bad])
    assert isinstance(error, ProviderConnectionError)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"type": "error", "code": "rate_limit_exceeded", "message": "Slow", "param": None}, QuotaExceededError),
        ({"type": "error", "error": {"type": "server_error", "message": "Gone"}}, ProviderAPIError),
        ({"error": {"code": "content_filter", "message": "No"}, "type": ""}, ContentFilterError),
        (end("failed", error={"code": "rate_limit_exceeded", "message": "Slow"}), QuotaExceededError),
        (end("failed"), ProviderAPIError),
    ],
)
def test_errors_in_the_middle_of_a_stream(event: dict[str, Any], kind: type) -> None:
    deltas, error = at_every_cut(NEW, stream(text("a"), event, end()))
    assert type(error) is kind
    assert [delta.content for delta in deltas] == ["a"]


def test_our_own_errors_come_back() -> None:
    encoder = PLAIN.stream_encoder(GenerateRequest(USER, stream=True))
    data = encoder.encode(GenerateResponse("a")) + encoder.fail(QuotaExceededError("Slow down"))
    deltas, error = at_every_cut(NEW, data)
    assert [delta.content for delta in deltas] == ["a"]
    assert type(error) is QuotaExceededError


def test_whole_calls_in_one_delta_are_encoded() -> None:
    encoder = PLAIN.stream_encoder(GenerateRequest(USER, stream=True, model="m"))
    first = GenerateResponse("a", "b", (WEATHER, replace(WEATHER, id="call_2")), finish_reason="tool_calls")
    data = encoder.encode(first) + encoder.end()
    assert join(until_error(NEW(), [data])[0]) == replace(first, model="m")


def test_every_piece_belongs_to_an_item_that_is_open() -> None:
    encoder = PLAIN.stream_encoder(GenerateRequest(USER, stream=True, model="m"))
    deltas = [
        GenerateResponse("a"),
        GenerateResponse(tool_call_deltas=(ToolCallDelta(0, "c", "f", "{"),)),
        GenerateResponse("b"),
        GenerateResponse(tool_call_deltas=(ToolCallDelta(0, arguments="}"),)),
        GenerateResponse(reasoning="r"),
        GenerateResponse("c", finish_reason="tool_calls"),
    ]
    data = b"".join(map(encoder.encode, deltas)) + encoder.end()
    events = [json.loads(block.split(b"data: ")[1]) for block in data.strip().split(b"\n\n")]
    texts: dict[int, str] = {}
    output: dict[int, Any] = {}
    for event in events:
        place = event.get("output_index")
        if event["type"] == "response.output_item.added":
            texts[place] = ""
        elif event["type"].endswith(".delta"):
            texts[place] += event["delta"]
        elif event["type"] == "response.output_item.done":
            assert texts.pop(place) in json.dumps(event["item"])
            output[place] = event["item"]
    assert texts == {}
    assert events[-1]["response"]["output"] == [output[place] for place in sorted(output)]
    assert [one["type"] for one in events[-1]["response"]["output"]] == [
        "message",
        "function_call",
        "message",
        "reasoning",
        "message",
    ]
    assert join(until_error(NEW(), [data])[0]) == replace(join(deltas), model="m")


def test_encoded_events_are_numbered_and_named() -> None:
    codec = OpenAIResponses(new_id=lambda: "1", clock=lambda: 5.9)
    encoder = codec.stream_encoder(GenerateRequest(USER, stream=True, model="m"))
    data = encoder.encode(GenerateResponse(reasoning="b")) + encoder.encode(GenerateResponse("a")) + encoder.end()
    pairs = [block.split("\n") for block in data.decode().strip().split("\n\n")]
    events = [json.loads(line.removeprefix("data: ")) for _, line in pairs]
    assert [name.removeprefix("event: ") for name, _ in pairs] == [event["type"] for event in events]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
        "output_item.done",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert (events[-1]["response"]["id"], events[-1]["response"]["created_at"]) == ("resp_1", 5)


OUTPUT = [
    {"type": "reasoning", "id": "r", "summary": [{"type": "x", "text": "t"}], "content": [{"type": "x", "text": "t"}]},
    {"type": "message", "role": "assistant", "content": [{**TEXT, "logprobs": [{"token": "a", "logprob": -1.0}]}]},
    {**CALL, "arguments": "{}"},
]
ENDED = {
    "status": "incomplete",
    "incomplete_details": {"reason": "x"},
    "model": "m",
    "output": OUTPUT,
    "usage": {"input_tokens": 1, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 1}},
    "error": None,
}
REQUEST = {
    "model": "m",
    "instructions": "i",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "t"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA=="},
                {"type": "input_file", "filename": "f", "file_data": "data:application/pdf;base64,AA=="},
            ],
        },
        *OUTPUT,
        {"type": "function_call_output", "call_id": "call_1", "output": "o"},
    ],
    "tools": [{"type": "function", "name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
    "reasoning": {"effort": "low"},
    "include": ["x"],
    "stream": True,
}


def test_nothing_that_a_service_sends_breaks_the_decoders() -> None:
    for value in samples.spoiled(ENDED):
        samples.raises_only_ours(lambda value=value: PLAIN.decode_response(json.dumps(value).encode()))
    good = (*(added(place, **item) for place, item in enumerate(OUTPUT)), piece("{}", output_index=2), text("a", 1))
    for value in samples.spoiled([*good, *(done(place, **item) for place, item in enumerate(OUTPUT))]):
        if isinstance(value, list):
            events = [
                one if isinstance(one, dict) and isinstance(one.get("type"), str) else {"type": ""} for one in value
            ]
            until_error(NEW(), [stream(*events, end())])


def test_nothing_that_a_client_sends_breaks_the_decoder() -> None:
    assert PLAIN.decode_request(REQUEST).model == "m"
    for value in samples.spoiled(REQUEST):
        samples.raises_only_ours(lambda body=value: PLAIN.decode_request(body))


@settings(max_examples=30)
@given(st.binary(max_size=60))
def test_no_bytes_break_the_decoders(data: bytes) -> None:
    samples.raises_only_ours(lambda: PLAIN.decode_response(data))
    until_error(NEW(), [b"data: " + data + b"\n\n"])


def test_ids_of_calls_that_are_too_long_are_replaced() -> None:
    called = Message("assistant", "", tool_calls=(ToolCall("x" * 65, "f"),))
    told = Message("tool", "7", tool_call_id="x" * 65)
    _, call, result = PLAIN.encode_request(GenerateRequest((*USER, called, told), model="m"))["input"]
    assert call["call_id"] == result["call_id"]
    assert len(call["call_id"]) == 9
