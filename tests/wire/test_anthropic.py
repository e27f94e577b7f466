"""Answers in Anthropic's Messages format: whole and streamed, in both directions."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.accumulator import call_deltas, join
from abstractllm.errors import (
    AuthenticationError,
    GenerationError,
    InvalidParameterError,
    ProviderAPIError,
    ProviderConnectionError,
    QueueFullError,
    UnsupportedFeatureError,
)
from abstractllm.types import (
    GenerateRequest,
    GenerateResponse,
    Message,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from abstractllm.wire.anthropic import AnthropicMessages

from .strategies import call_lists, texts
from .streams import at_every_cut, decoded, encoded, in_pieces, named_events, nothing_empty, until_error

CODEC = AnthropicMessages()
REQUEST = GenerateRequest((Message("user", "Hello"),), model="claude", stream=True)
THINKING = {"type": "thinking", "thinking": "Let me see.", "signature": "EqQB=="}
REDACTED = {"type": "redacted_thinking", "data": "Er8C"}

BEGIN = (
    '{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x",'
    '"content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":3,'
    '"cache_read_input_tokens":7,"output_tokens":1,"service_tier":"standard"}}}'
)
STOP = '{"type":"message_stop"}'


def start(index: int, block: dict[str, Any]) -> str:
    return json.dumps({"type": "content_block_start", "index": index, "content_block": block}, ensure_ascii=False)


def piece(index: int, kind: str, **fields: Any) -> str:
    delta = {"type": kind, **fields}
    return json.dumps({"type": "content_block_delta", "index": index, "delta": delta}, ensure_ascii=False)


def stop(index: int) -> str:
    return json.dumps({"type": "content_block_stop", "index": index})


def ending(reason: str = "end_turn", sequence: str | None = None, **usage: Any) -> str:
    counts = {"output_tokens": 20, **usage}
    delta = {"stop_reason": reason, "stop_sequence": sequence}
    return json.dumps({"type": "message_delta", "delta": delta, "usage": counts})


def answer_of(*bodies: str) -> GenerateResponse:
    deltas = decoded(CODEC.stream_decoder(), [named_events(*bodies)])
    assert nothing_empty(deltas)
    return join(deltas)


# Streams as the service sends them.

TEXT = named_events(
    BEGIN,
    start(0, {"type": "text", "text": ""}),
    '{"type": "ping"}',
    piece(0, "text_delta", text="Grüße"),
    piece(0, "text_delta", text=", 世界!"),
    stop(0),
    ending("stop_sequence", "END"),
    STOP,
)

CALLS = named_events(
    BEGIN,
    start(0, {"type": "thinking", "thinking": "", "signature": ""}),
    piece(0, "thinking_delta", thinking="Two "),
    piece(0, "thinking_delta", thinking="cities."),
    piece(0, "signature_delta", signature="EqQB"),
    stop(0),
    start(1, REDACTED),
    stop(1),
    start(2, {"type": "text", "text": ""}),
    piece(2, "text_delta", text="I look."),
    stop(2),
    start(3, {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}),
    piece(3, "input_json_delta", partial_json=""),
    piece(3, "input_json_delta", partial_json='{"city": "Rom'),
    piece(3, "input_json_delta", partial_json='e"}'),
    stop(3),
    start(4, {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}}),
    piece(4, "input_json_delta", partial_json=""),
    stop(4),
    ending("tool_use", output_tokens_details={"thinking_tokens": 9}),
    STOP,
)


def test_text_is_the_same_wherever_the_stream_is_cut() -> None:
    deltas, error = at_every_cut(CODEC.stream_decoder, TEXT)
    assert error is None
    assert deltas == [
        GenerateResponse(content="Grüße"),
        GenerateResponse(content=", 世界!"),
        GenerateResponse(
            finish_reason="stop", usage=Usage(20, 20, cached_tokens=7), stop_string="END", model="claude-x"
        ),
    ]


def test_thinking_and_calls_are_the_same_wherever_the_stream_is_cut() -> None:
    deltas, error = at_every_cut(CODEC.stream_decoder, CALLS)
    assert error is None
    assert nothing_empty(deltas)
    assert [delta.tool_call_deltas[0] for delta in deltas if delta.tool_call_deltas] == [
        ToolCallDelta(0, "toolu_1", "weather"),
        ToolCallDelta(0, arguments='{"city": "Rom'),
        ToolCallDelta(0, arguments='e"}'),
        ToolCallDelta(1, "toolu_2", "now"),
    ]
    thinking = {"type": "thinking", "thinking": "Two cities.", "signature": "EqQB"}
    assert [len(delta.provider_data["anthropic"]) for delta in deltas if delta.provider_data] == [1, 2, 5]
    assert join(deltas) == GenerateResponse(
        content="I look.",
        reasoning="Two cities.",
        tool_calls=(ToolCall("toolu_1", "weather", {"city": "Rome"}), ToolCall("toolu_2", "now")),
        finish_reason="tool_calls",
        usage=Usage(20, 20, cached_tokens=7, reasoning_tokens=9),
        model="claude-x",
        provider_data={
            "anthropic": [
                thinking,
                REDACTED,
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Rome"}},
                {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
            ]
        },
    )


def test_what_a_stream_kept_goes_back_as_it_came() -> None:
    turn = join(decoded(CODEC.stream_decoder(), [CALLS])).to_message()
    body = CODEC.encode_request(GenerateRequest((Message("user", "Hello"), turn)))
    assert body["messages"][1]["content"] == turn.provider_data["anthropic"]


def test_an_error_comes_after_what_was_said_before_it() -> None:
    failure = '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}'
    data = named_events(BEGIN, start(0, {"type": "text", "text": ""}), piece(0, "text_delta", text="A"), failure)
    deltas, error = at_every_cut(CODEC.stream_decoder, data)
    assert deltas == [GenerateResponse(content="A")]
    assert error is not None
    assert "Overloaded" in str(error)


def test_an_error_has_the_type_that_the_service_says() -> None:
    with pytest.raises(AuthenticationError, match="bad key"):
        answer_of('{"type":"error","error":{"type":"authentication_error","message":"bad key"}}')
    with pytest.raises(ProviderAPIError, match="plain"):
        answer_of('{"type":"error","error":"plain"}')


def test_a_stream_that_ends_too_early_is_cut_off() -> None:
    for data in (TEXT, CALLS):
        for place in range(len(data) - 2):
            _, error = until_error(CODEC.stream_decoder(), [data[:place]])
            assert isinstance(error, ProviderConnectionError), place


def test_the_last_blank_line_may_be_missing() -> None:
    assert join(decoded(CODEC.stream_decoder(), [TEXT.rstrip()])).content == "Grüße, 世界!"


@pytest.mark.parametrize(
    "body",
    [
        b"data: {nonsense}\n\n",
        b"data: [DONE]\n\n",
        b'data: {"type":"content_block_delta","delta":{"text":"\xff"}}\n\n',
        b'data: {"type":"content_block_delta","delta":{"text":7}}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
)
def test_what_is_no_event_is_an_error(body: bytes) -> None:
    with pytest.raises(GenerationError, match="cannot read"):
        CODEC.stream_decoder().feed(body)


# What services do that the format does not say.


def test_unknown_events_and_pieces_mean_nothing() -> None:
    unknown = '{"type":"news","delta":"text","index":"first"}'
    block = {"type": "container_upload", "file_id": "f"}
    found = answer_of(unknown, BEGIN, start(0, block), piece(0, "news_delta", news=1), stop(0), ending(), STOP)
    assert (found.content, found.provider_data) == ("", {"anthropic": [block]})


def test_after_the_end_comes_nothing() -> None:
    data = TEXT + b"data: [DONE]\n\n: bye\n\n"
    assert decoded(CODEC.stream_decoder(), [data]) == decoded(CODEC.stream_decoder(), [TEXT])


def test_comments_and_crlf() -> None:
    data = b": keepalive 1/3\r\n\r\n" + TEXT.replace(b"\n", b"\r\n")
    deltas, error = at_every_cut(CODEC.stream_decoder, data)
    assert (deltas, error) == (decoded(CODEC.stream_decoder(), [TEXT]), None)


def test_a_block_may_begin_with_all_that_it_says() -> None:
    found = answer_of(
        start(0, {"type": "thinking", "thinking": "Hm."}),
        stop(0),
        start(1, {"type": "text", "text": "Yes"}),
        piece(1, "text_delta", text="!"),
        stop(1),
        start(2, {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}}),
        stop(2),
        ending(),
        STOP,
    )
    assert (found.reasoning, found.content) == ("Hm.", "Yes!")
    assert found.tool_calls == (ToolCall("a", "f", {"x": 1}),)
    assert found.finish_reason == "tool_calls"


def test_a_call_without_id_gets_one() -> None:
    found = answer_of(
        start(0, {"type": "tool_use", "name": "f"}),
        stop(0),
        start(1, {"type": "tool_use", "id": "", "name": "g", "input": {}}),
        stop(1),
        ending("tool_use"),
        STOP,
    )
    assert found.tool_calls == (ToolCall("call_0", "f"), ToolCall("call_1", "g"))


def test_pieces_without_an_index_belong_to_the_block_that_began_last() -> None:
    found = answer_of(
        '{"type":"content_block_start","content_block":{"type":"tool_use","id":"a","name":"f"}}',
        '{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{\\"x\\":1}"}}',
        '{"type":"content_block_stop"}',
        ending(),
        STOP,
    )
    assert found.tool_calls == (ToolCall("a", "f", {"x": 1}),)


def test_a_block_that_never_began_is_what_its_pieces_are() -> None:
    found = answer_of(
        piece(0, "thinking_delta", thinking="Hm."), piece(1, "text_delta", text="Yes"), stop(9), ending(), STOP
    )
    assert (found.reasoning, found.content) == ("Hm.", "Yes")
    called = start(0, {"type": "tool_use", "id": "a", "name": "f"})
    found = answer_of(called, piece(7, "text_delta", text="Yes"), ending(), start(8, REDACTED), stop(8), STOP)
    assert found.provider_data["anthropic"][:2] == [
        {"type": "tool_use", "id": "a", "name": "f"},
        {"type": "text", "text": "Yes"},
    ]
    nameless = answer_of(piece(0, "input_json_delta", partial_json="{}"), ending(), STOP)
    assert nameless.tool_calls == (ToolCall("call_0", "", {}, invalid="{}"),)


def test_counts_are_cumulative_and_may_come_at_the_end() -> None:
    found = answer_of(BEGIN, ending(input_tokens=40, cache_read_input_tokens=2), STOP)
    assert found.usage == Usage(45, 20, cached_tokens=2)
    assert answer_of('{"type":"message_delta","delta":{"stop_reason":"max_tokens"}}', STOP).usage is None


def test_citations_are_kept() -> None:
    first, second = {"cited_text": "a"}, {"cited_text": "b"}
    found = answer_of(
        start(0, {"type": "text", "text": "", "citations": []}),
        piece(0, "citations_delta", citation=first),
        piece(0, "text_delta", text="A."),
        piece(0, "citations_delta", citation=second),
        stop(0),
        ending(),
        STOP,
    )
    assert found.provider_data == {"anthropic": [{"type": "text", "text": "A.", "citations": [first, second]}]}


def test_calls_of_the_services_own_tools_are_kept_and_not_ours() -> None:
    found = answer_of(
        start(0, {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}}),
        piece(0, "input_json_delta", partial_json='{"query":"x"}'),
        stop(0),
        start(1, {"type": "tool_use", "id": "a", "name": "f", "input": {}}),
        piece(1, "input_json_delta", partial_json='{"cut'),
        ending("max_tokens"),
        STOP,
    )
    assert found.tool_calls == (ToolCall("a", "f", {}, invalid='{"cut'),)
    assert found.finish_reason == "length"
    assert found.provider_data["anthropic"] == [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"INVALID_JSON": '{"cut'}},
    ]


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("something_new", "stop"),
    ],
)
def test_why_an_answer_ended(reason: str, finish: str) -> None:
    assert answer_of(BEGIN, ending(reason), STOP).finish_reason == finish


# Whole answers.


def test_a_whole_answer() -> None:
    body = {
        "id": "msg_1",
        "type": "message",
        "model": "claude-x",
        "content": [
            {"type": "text", "text": "A"},
            {"type": "text", "text": "B"},
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1.0}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 10, "cache_read_input_tokens": None, "output_tokens": 5, "server_tool_use": None},
    }
    found = CODEC.decode_response(json.dumps(body).encode())
    assert found == GenerateResponse(
        content="AB",
        tool_calls=(ToolCall("a", "f", {"x": 1.0}),),
        finish_reason="tool_calls",
        usage=Usage(10, 5),
        model="claude-x",
    )
    assert found.raw_response == body


def test_arguments_as_text_are_understood() -> None:
    blocks = [
        {"type": "tool_use", "id": "a", "name": "f", "input": given} for given in ('{"x": 1}', "", "[", [1], None)
    ]
    found = CODEC.decode_response(json.dumps({"content": blocks}).encode())
    assert [call.arguments for call in found.tool_calls] == [{"x": 1}, {}, {}, {}, {}]
    assert [call.invalid for call in found.tool_calls] == [None, None, "[", "[1]", None]


def test_an_error_instead_of_an_answer_is_raised() -> None:
    with pytest.raises(AuthenticationError, match="bad key"):
        CODEC.decode_response(b'{"type":"error","error":{"type":"authentication_error","message":"bad key"}}')


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"content": "text"}', b'{"model": "\xff"}', b""])
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(GenerationError, match="cannot read"):
        CODEC.decode_response(body)


# Round trips.


@st.composite
def answers(draw: st.DrawFn) -> GenerateResponse:
    """An answer that the format can say without loss."""
    calls = draw(call_lists())
    text = draw(st.just("") | texts)
    usage = Usage(draw(st.integers(50, 99)), draw(st.integers(0, 99)), cached_tokens=draw(st.integers(0, 50)))
    thought = draw(st.sampled_from([(), (THINKING,), (REDACTED,), (REDACTED, THINKING, THINKING)]))
    said = [{"type": "text", "text": text}] if text else []
    called = [
        {
            "type": "tool_use",
            "id": call.id,
            "name": call.name,
            "input": {"INVALID_JSON": call.invalid} if call.invalid else dict(call.arguments),
        }
        for call in calls
    ]
    signed = "".join(str(block.get("thinking", "")) for block in thought)
    finish = "tool_calls" if calls else draw(st.sampled_from(["stop", "length", "content_filter"]))
    return GenerateResponse(
        content=text,
        reasoning=signed if thought else draw(st.just("") | texts),
        tool_calls=calls,
        finish_reason=finish,
        usage=replace(usage, reasoning_tokens=draw(st.integers(0, 9))),
        stop_string=draw(st.none() | texts) if finish == "stop" else None,
        model="claude",
        provider_data={"anthropic": [*thought, *said, *called]} if thought else None,
    )


@settings(max_examples=50)
@given(answers())
def test_a_whole_answer_that_is_encoded_is_understood(answer: GenerateResponse) -> None:
    body = json.dumps(CODEC.encode_response(answer)).encode()
    assert CODEC.decode_response(body) == answer


@settings(max_examples=50)
@given(answers())
def test_a_whole_answer_can_be_streamed_as_one_delta(answer: GenerateResponse) -> None:
    deltas = decoded(CODEC.stream_decoder(), [encoded(CODEC.stream_encoder(REQUEST), [answer])])
    assert nothing_empty(deltas)
    assert join(deltas) == answer


@settings(max_examples=50)
@given(answers(), st.integers(1, 5))
def test_a_stream_that_is_encoded_is_understood(answer: GenerateResponse, size: int) -> None:
    kept = (answer.provider_data or {}).get("anthropic", [])
    thought = [block for block in kept if block["type"] in ("thinking", "redacted_thinking")]
    deltas = [] if kept else [GenerateResponse(reasoning=text) for text in in_pieces(answer.reasoning, size)]
    for number, block in enumerate(thought, 1):
        deltas += [GenerateResponse(reasoning=text) for text in in_pieces(block.get("thinking", ""), size)]
        deltas.append(GenerateResponse(provider_data={"anthropic": thought[:number]}))
    deltas += [GenerateResponse(content=text) for text in in_pieces(answer.content, size)]
    for call in call_deltas(answer.tool_calls):
        deltas.append(GenerateResponse(tool_call_deltas=(replace(call, arguments=""),)))
        parts = in_pieces(call.arguments, size)
        deltas += [GenerateResponse(tool_call_deltas=(ToolCallDelta(call.index, arguments=text),)) for text in parts]
    deltas.append(replace(answer, content="", reasoning="", tool_calls=()))
    data = encoded(CODEC.stream_encoder(REQUEST), deltas)
    assert join(decoded(CODEC.stream_decoder(), [data])) == join(deltas) == answer


def test_what_one_service_streams_another_can_stream_on() -> None:
    for data in (TEXT, CALLS):
        deltas = decoded(CODEC.stream_decoder(), [data])
        again = decoded(CODEC.stream_decoder(), [encoded(CODEC.stream_encoder(REQUEST), deltas)])
        assert join(again) == replace(join(deltas), model="claude")


def test_citations_are_streamed_on() -> None:
    block = {"type": "text", "text": "A.", "citations": [{"cited_text": "a"}]}
    deltas = [GenerateResponse(content="A."), GenerateResponse(provider_data={"anthropic": [block]})]
    found = join(decoded(CODEC.stream_decoder(), [encoded(CODEC.stream_encoder(REQUEST), deltas)]))
    assert found.provider_data == {"anthropic": [block]}


# What a server says.


def names_of(data: bytes) -> list[str]:
    return [line.removeprefix("event: ") for line in data.decode().split("\n") if line.startswith("event: ")]


def test_a_stream_has_the_events_that_clients_expect() -> None:
    deltas = [GenerateResponse(content="A"), GenerateResponse(content="B"), GenerateResponse(finish_reason="stop")]
    data = encoded(CODEC.stream_encoder(REQUEST), deltas)
    block = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    assert names_of(data) == ["message_start", *block, "message_delta", "message_stop"]
    first = json.loads(data.split(b"\n")[1].removeprefix(b"data: "))["message"]
    assert first["id"].startswith("msg_")
    assert (first["model"], first["role"], first["content"]) == ("claude", "assistant", [])


def test_an_empty_answer_is_a_stream_too() -> None:
    assert names_of(encoded(CODEC.stream_encoder(REQUEST), [])) == ["message_start", "message_delta", "message_stop"]


def test_reason_and_counts_may_come_apart() -> None:
    for facts in ({"usage": Usage(1, 2)}, {"finish_reason": "stop", "stop_string": "END"}), ({}, {}):
        deltas = [GenerateResponse(**fields) for fields in facts]
        found = join(decoded(CODEC.stream_decoder(), [encoded(CODEC.stream_encoder(REQUEST), deltas)]))
        expected = (Usage(1, 2), "END") if facts[0] else (Usage(0, 0), None)
        assert (found.usage, found.stop_string, found.finish_reason) == (*expected, "stop")


def test_pieces_of_calls_may_come_in_turn_and_before_their_name() -> None:
    pieces = [
        ToolCallDelta(0, "a", None, '{"x"'),
        ToolCallDelta(1, None, "g", "{"),
        ToolCallDelta(0, "a", "f", ":1"),
        ToolCallDelta(1, arguments="}"),
        ToolCallDelta(0, arguments="}"),
    ]
    deltas = [GenerateResponse(tool_call_deltas=(one,)) for one in pieces]
    data = encoded(CODEC.stream_encoder(REQUEST), [*deltas, GenerateResponse(finish_reason="tool_calls")])
    found = join(decoded(CODEC.stream_decoder(), [data]))
    assert sorted(found.tool_calls, key=lambda call: call.name) == [
        ToolCall("a", "f", {"x": 1}),
        ToolCall("call_1", "g"),
    ]


def test_a_call_that_never_gets_a_name_is_not_lost() -> None:
    data = encoded(
        CODEC.stream_encoder(REQUEST), [GenerateResponse(tool_call_deltas=(ToolCallDelta(0, "a", None, "{}"),))]
    )
    assert join(decoded(CODEC.stream_decoder(), [data])).tool_calls == (ToolCall("a", "", {}, invalid="{}"),)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (QueueFullError("full"), "overloaded_error", "full"),
        (InvalidParameterError("n", "bad n"), "invalid_request_error", "bad n"),
        (GenerationError("broken"), "api_error", "broken"),
        (KeyError("secret"), "api_error", "The server failed"),
    ],
)
def test_errors_are_reported_without_what_is_inside(error: Exception, kind: str, message: str) -> None:
    encoder = CODEC.stream_encoder(REQUEST)
    data = encoder.encode(GenerateResponse(content="A")) + encoder.fail(error)
    assert json.loads(data.split(b"data: ")[-1])["error"]["type"] == kind
    assert b"secret" not in data
    deltas, raised = until_error(CODEC.stream_decoder(), [data])
    assert deltas == [GenerateResponse(content="A")]
    assert raised is not None
    assert message in str(raised)


def test_several_answers_cannot_be_said() -> None:
    several = GenerateResponse(choices=(GenerateResponse(), GenerateResponse(choice=1)))
    with pytest.raises(UnsupportedFeatureError, match="one answer"):
        CODEC.encode_response(several)


def test_a_cut_stream_has_its_own_error() -> None:
    with pytest.raises(ProviderConnectionError, match="cut off"):
        CODEC.stream_decoder().end()
