"""Ollama's native chat format: requests and answers, whole and streamed, in both directions."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.accumulator import call_deltas, join
from abstractllm.errors import (
    GenerationError,
    InvalidParameterError,
    InvalidRequestError,
    ProviderAPIError,
    ProviderConnectionError,
    UnsupportedFeatureError,
)
from abstractllm.schema import Regex, to_output_format
from abstractllm.types import (
    DocumentPart,
    GenerateRequest,
    GenerateResponse,
    ImagePart,
    Message,
    Part,
    TextPart,
    Timings,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolDefinition,
    Usage,
)
from abstractllm.wire.ollama import OllamaChat, OllamaQuirks

from .strategies import call_lists, closed_formats, images, names, texts, tools
from .streams import at_every_cut, decoded, encoded, in_pieces, nothing_empty, until_error

CODEC = OllamaChat()
LEVELS = OllamaChat(OllamaQuirks(think_levels=True))
HELLO = (Message("user", "Hello"),)
REQUEST = GenerateRequest(HELLO, model="qwen3", stream=True)
WEATHER = ToolDefinition("weather", "Tells it.", {"type": "object", "properties": {"city": {"type": "string"}}})
PNG = b"\x89PNG\r\n\x1a\n"


def body_of(*messages: Message, codec: OllamaChat = CODEC, **parameters: Any) -> dict[str, Any]:
    return dict(codec.encode_request(GenerateRequest(messages or HELLO, model="m", **parameters)))


# Round trips of requests.


@st.composite
def contents(draw: st.DrawFn) -> str | tuple[Part, ...]:
    """A text, or images and then a text."""
    pictures = tuple(draw(st.lists(images, max_size=2)))
    text = draw(texts)
    if not pictures:
        return text
    return (*pictures, TextPart(text)) if draw(st.booleans()) else pictures


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    found = [Message("system", draw(texts))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 2))):
        calls = draw(call_lists("call_"))
        found.append(Message("user", draw(contents())))
        thought = draw(st.none() | texts)
        found.append(Message("assistant", draw(st.just("") | texts), tool_calls=calls, reasoning=thought))
        found += [Message("tool", draw(texts), name=call.name, tool_call_id=call.id) for call in calls]
    return tuple(found)


@st.composite
def requests(draw: st.DrawFn) -> GenerateRequest:
    """A request that the format can say without loss."""
    logprobs = draw(st.booleans())
    unit = st.none() | st.floats(0.01, 1)
    penalty = st.none() | st.floats(-2, 2)
    json_object = st.just(to_output_format({"type": "json_object"}))
    return GenerateRequest(
        messages=draw(conversations()),
        tools=draw(tools()),
        stream=draw(st.booleans()),
        model=draw(st.none() | names),
        max_tokens=draw(st.none() | st.integers(1, 10**6)),
        temperature=draw(st.none() | st.floats(0, 2)),
        top_p=draw(unit),
        top_k=draw(st.none() | st.integers(1, 500)),
        min_p=draw(unit),
        seed=draw(st.none() | st.integers(-(2**31), 2**31)),
        stop=tuple(draw(st.lists(texts, max_size=2))),
        logprobs=logprobs,
        top_logprobs=draw(st.none() | st.integers(1, 20)) if logprobs else None,
        presence_penalty=draw(penalty),
        frequency_penalty=draw(penalty),
        repetition_penalty=draw(st.none() | st.floats(0.5, 2)),
        response_format=draw(st.none() | json_object | closed_formats()),
        reasoning=draw(st.sampled_from([None, "none", "low", "medium", "high"])),
        options=draw(st.sampled_from([{}, {"num_ctx": 8192, "keep_alive": "5m"}, {"keep_alive": -1}])),
    )


@settings(max_examples=60)
@given(requests())
def test_what_can_be_said_is_understood(request: GenerateRequest) -> None:
    body = json.loads(json.dumps(LEVELS.encode_request(request)))
    assert LEVELS.decode_request(body) == request


# Requests -> bodies.


def test_a_plain_body_says_whether_it_streams() -> None:
    assert body_of() == {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": False}
    assert body_of(stream=True)["stream"] is True


def test_parameters_and_options_have_their_places() -> None:
    body = body_of(
        max_tokens=5,
        temperature=0.5,
        seed=1,
        stop=("a",),
        top_k=2,
        top_p=0.9,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        options={"num_ctx": 4096, "keep_alive": "10m"},
    )
    assert body["keep_alive"] == "10m"
    assert body["options"] == {
        "num_predict": 5,
        "temperature": 0.5,
        "seed": 1,
        "stop": ["a"],
        "top_k": 2,
        "top_p": 0.9,
        "min_p": 0.1,
        "repeat_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "num_ctx": 4096,
    }


def test_options_may_not_say_a_thing_twice() -> None:
    with pytest.raises(InvalidParameterError, match="options say 'num_predict'"):
        body_of(max_tokens=5, options={"num_predict": 6})


def test_images_are_bare_base64_and_texts_one_text() -> None:
    turn = Message("user", (TextPart("A"), ImagePart(PNG, "image/png"), TextPart("B")))
    assert body_of(turn)["messages"] == [
        {"role": "user", "content": "A\n\nB", "images": [base64.b64encode(PNG).decode()]}
    ]
    with pytest.raises(UnsupportedFeatureError, match="not by URL"):
        body_of(Message("user", (ImagePart(b"", "", url="https://example.org/a.png"),)))
    with pytest.raises(UnsupportedFeatureError, match="application/pdf"):
        body_of(Message("user", (DocumentPart(b"%PDF", "application/pdf"),)))


def test_results_go_by_the_name_of_the_tool() -> None:
    calls = (ToolCall("a", "weather", {"city": "Rome"}), ToolCall("b", "now", {}, invalid="{"))
    found = body_of(
        *HELLO,
        Message("assistant", "", tool_calls=calls, reasoning="Hm."),
        Message("tool", "sunny", tool_call_id="a"),
        Message("tool", "12:00", name="clock", tool_call_id="b"),
        Message("tool", "?"),
    )["messages"]
    assert found[1:] == [
        {
            "role": "assistant",
            "content": "",
            "thinking": "Hm.",
            "tool_calls": [
                {"id": "a", "function": {"index": 0, "name": "weather", "arguments": {"city": "Rome"}}},
                {"id": "b", "function": {"index": 1, "name": "now", "arguments": {"INVALID_JSON": "{"}}},
            ],
        },
        {"role": "tool", "content": "sunny", "tool_name": "weather", "tool_call_id": "a"},
        {"role": "tool", "content": "12:00", "tool_name": "clock", "tool_call_id": "b"},
        {"role": "tool", "content": "?"},
    ]


def test_no_tool_is_called_where_none_is_offered() -> None:
    function = {"name": "weather", "description": "Tells it.", "parameters": WEATHER.parameters}
    assert body_of(tools=(WEATHER,), tool_choice="auto")["tools"] == [{"type": "function", "function": function}]
    assert "tools" not in body_of(tools=(WEATHER,), tool_choice="none")
    for choice in ("required", "weather"):
        with pytest.raises(UnsupportedFeatureError, match="cannot force a tool call"):
            body_of(tools=(WEATHER,), tool_choice=choice)


def test_formats() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    assert body_of(response_format=to_output_format({"type": "json_object"}))["format"] == "json"
    assert body_of(response_format=to_output_format(schema))["format"] == schema
    with pytest.raises(UnsupportedFeatureError, match="format of kind 'regex'"):
        body_of(response_format=to_output_format(Regex("a")))


def test_most_models_know_only_whether_to_think() -> None:
    levels = ("none", "low", "medium", "high")
    assert [body_of(reasoning=level)["think"] for level in levels] == [False, True, True, True]
    assert [body_of(codec=LEVELS, reasoning=level)["think"] for level in levels] == [False, "low", "medium", "high"]


@pytest.mark.parametrize(
    ("name", "value"), [("n", 2), ("logit_bias", {1: 2.0}), ("deterministic", True), ("priority", 1)]
)
def test_what_the_format_cannot_say_is_refused(name: str, value: object) -> None:
    with pytest.raises(UnsupportedFeatureError, match=f"no place for the parameter '{name}'"):
        body_of(**{name: value})


def test_names_of_speakers_are_refused() -> None:
    with pytest.raises(UnsupportedFeatureError, match=r"name of messages\[0\]"):
        body_of(Message("user", "Hello", name="Ann"))


# Bodies -> requests.


def read(**fields: Any) -> GenerateRequest:
    return CODEC.decode_request({"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields})


def test_a_client_that_says_nothing_gets_a_stream() -> None:
    assert read() == replace(REQUEST, model="m")
    assert read(stream=None).stream is True
    assert read(stream=False).stream is False


def test_limits_that_are_none() -> None:
    found = read(options={"num_predict": -1, "top_k": 0, "seed": None, "mirostat": 1}, template="x")
    assert (found.max_tokens, found.top_k, found.seed) == (None, None, None)
    assert found.options == {"mirostat": 1, "template": "x"}


def test_arguments_of_the_history_may_be_text() -> None:
    calls = [{"function": {"name": "f", "arguments": '{"x": 1}'}}, {"function": {"name": "g"}}]
    found = read(messages=[{"role": "assistant", "content": None, "tool_calls": calls}]).messages[0]
    assert found == Message("assistant", "", tool_calls=(ToolCall("", "f", {"x": 1}), ToolCall("", "g")))


@pytest.mark.parametrize(
    ("start", "media_type"),
    [(PNG, "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF89a", "gif"), (b"RIFF\n\x00\x00\x00WEBP", "webp")],
)
def test_images_say_themselves_what_they_are(start: bytes, media_type: str) -> None:
    image = base64.b64encode(start + b"...").decode()
    found = read(messages=[{"role": "user", "content": "", "images": [image]}]).messages[0].content
    assert found == (ImagePart(start + b"...", f"image/{media_type}"),)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"messages": []}, "no messages"),
        ({"messages": [{"role": "robot"}]}, "role"),
        ({"messages": [{"role": "user", "images": ["é"]}]}, "not valid base64"),
        ({"messages": [{"role": "user", "images": ["eHg="]}]}, "neither PNG"),
        ({"options": {"temperature": "hot"}}, "temperature"),
        ({"format": "xml"}, "'xml'"),
        ({"think": "deeply"}, "think"),
        ({"tools": [{"type": "function"}]}, "function"),
    ],
)
def test_what_is_no_request_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        read(**fields)


# Streams as the service sends them.


def line(message: dict[str, Any] | None = None, **fields: Any) -> bytes:
    said = {} if message is None else {"message": {"role": "assistant", "content": "", **message}}
    common = {"model": "qwen3", "created_at": "2025-05-27T22:54:57.641643Z", **said, "done": False}
    return json.dumps(common | fields, ensure_ascii=False).encode() + b"\n"


LAST = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 8122000000,
    "load_duration": 6000000,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 130000000,
    "eval_count": 298,
    "eval_duration": 4799000000,
}
TEXT = line({"content": "Grüße"}) + line({"content": ", 世界!"}) + line({}, **LAST)
CALLS = (
    line({"thinking": "Two "})
    + line({"thinking": "cities."})
    + line({"tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome", "days": 1.0}}}]})
    + line({"tool_calls": [{"id": "call_x", "function": {"index": 1, "name": "now", "arguments": {}}}]})
    + line({}, **LAST)
)


def test_text_is_the_same_wherever_the_stream_is_cut() -> None:
    deltas, error = at_every_cut(CODEC.stream_decoder, TEXT)
    assert error is None
    assert deltas == [
        GenerateResponse(content="Grüße"),
        GenerateResponse(content=", 世界!"),
        GenerateResponse(finish_reason="stop", usage=Usage(26, 298), model="qwen3"),
    ]


def test_calls_on_several_lines_are_the_same_wherever_the_stream_is_cut() -> None:
    deltas, error = at_every_cut(CODEC.stream_decoder, CALLS)
    assert error is None
    assert nothing_empty(deltas)
    assert [delta.tool_call_deltas for delta in deltas if delta.tool_call_deltas] == [
        (ToolCallDelta(0, "call_0", "weather", '{"city":"Rome","days":1.0}'),),
        (ToolCallDelta(1, "call_x", "now", "{}"),),
    ]
    assert join(deltas) == GenerateResponse(
        reasoning="Two cities.",
        tool_calls=(ToolCall("call_0", "weather", {"city": "Rome", "days": 1.0}), ToolCall("call_x", "now")),
        finish_reason="tool_calls",
        usage=Usage(26, 298),
        model="qwen3",
    )


def test_an_error_comes_after_what_was_said_before_it() -> None:
    data = line({"content": "A"}) + b'{"error":"an error was encountered while running the model"}\n'
    deltas, error = at_every_cut(CODEC.stream_decoder, data)
    assert deltas == [GenerateResponse(content="A")]
    assert error is not None
    assert "while running the model" in str(error)


def test_an_error_may_be_an_object() -> None:
    with pytest.raises(ProviderAPIError, match="too much"):
        CODEC.stream_decoder().feed(b'{"error":{"message":"too much"}}\n')


def test_a_stream_that_ends_too_early_is_cut_off() -> None:
    for data in (TEXT, CALLS):
        for place in range(len(data) - 1):
            _, error = until_error(CODEC.stream_decoder(), [data[:place]])
            assert isinstance(error, ProviderConnectionError), place


def test_the_last_end_of_a_line_may_be_missing() -> None:
    assert join(decoded(CODEC.stream_decoder(), [TEXT.rstrip()])).content == "Grüße, 世界!"


def test_blank_lines_and_what_comes_after_the_end_mean_nothing() -> None:
    data = b"\n \r\n" + TEXT.replace(b"\n", b"\r\n\r\n") + b"bye\n"
    deltas, error = at_every_cut(CODEC.stream_decoder, data)
    assert (deltas, error) == (decoded(CODEC.stream_decoder(), [TEXT]), None)


@pytest.mark.parametrize(
    "body", [b"<html>\n", b"[]\n", b'{"message":"text"}\n', b'{"message":{"content":"\xff"}}\n', b"[" * 100_000 + b"\n"]
)
def test_what_is_no_line_is_an_error(body: bytes) -> None:
    with pytest.raises(GenerationError, match="cannot read"):
        CODEC.stream_decoder().feed(body)


# What services do that the format does not say.


def joined(*lines: bytes) -> GenerateResponse:
    return join(decoded(CODEC.stream_decoder(), lines))


def test_the_last_line_may_say_something() -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    found = joined(line({"content": "A"}), line({"content": "B", "tool_calls": [call]}, done=True))
    assert (found.content, found.tool_calls) == ("AB", (ToolCall("call_0", "f"),))
    assert found.finish_reason == "tool_calls"


def test_all_calls_may_have_one_index() -> None:
    calls = [{"function": {"index": 0, "name": name, "arguments": {}}} for name in "fg"]
    found = joined(line({"tool_calls": calls}), line({"tool_calls": calls[:1]}), line({}, **LAST))
    assert [(call.id, call.name) for call in found.tool_calls] == [("call_0", "f"), ("call_1", "g"), ("call_2", "f")]


def test_arguments_may_be_text_or_nothing() -> None:
    arguments = ('{"x": 1}', "", None, "[", {"INVALID_JSON": "{"})
    calls = [{"function": {"name": "f", "arguments": given}} for given in arguments]
    found = joined(line({"tool_calls": calls}), line({}, **LAST)).tool_calls
    assert [(call.arguments, call.invalid) for call in found] == [
        ({"x": 1}, None),
        ({}, None),
        ({}, None),
        ({}, "["),
        ({}, "{"),
    ]


def test_counts_may_be_missing() -> None:
    assert joined(line({}, done=True)).usage is None
    assert joined(line({}, done=True, eval_count=3)).usage == Usage(0, 3)


def test_the_message_and_its_fields_may_be_missing_or_null() -> None:
    nothing = {"content": None, "thinking": None, "tool_calls": None}
    assert decoded(CODEC.stream_decoder(), [line(), line(nothing), line(done=True)]) == [
        GenerateResponse(finish_reason="stop", model="qwen3")
    ]


@pytest.mark.parametrize(
    ("reason", "finish"), [("stop", "stop"), ("length", "length"), ("load", "stop"), (None, "stop")]
)
def test_why_an_answer_ended(reason: str | None, finish: str) -> None:
    assert joined(line({}, done=True, done_reason=reason)).finish_reason == finish


def test_tokens_without_bytes_are_their_text() -> None:
    token = {"token": "é", "logprob": -0.5, "top_logprobs": [{"token": "e", "logprob": -1, "bytes": [101]}]}
    found = joined(line({"content": "é"}, logprobs=[token]), line({}, **LAST))
    top = (TokenLogprob("e", -1.0, b"e"),)
    assert found.logprobs == (TokenLogprob("é", -0.5, "é".encode(), top),)


# Whole answers.


def test_a_whole_answer() -> None:
    body = json.loads(line({"content": "Hi", "thinking": "Greet."}, **LAST))
    found = CODEC.decode_response(json.dumps(body).encode())
    assert found == GenerateResponse("Hi", "Greet.", finish_reason="stop", usage=Usage(26, 298), model="qwen3")
    assert found.raw_response == body


def test_an_error_instead_of_an_answer_is_raised() -> None:
    with pytest.raises(ProviderAPIError, match="model 'x' not found"):
        CODEC.decode_response(b"""{"error":"model 'x' not found"}""")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"message": 1}', b""])
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(GenerationError, match="cannot read"):
        CODEC.decode_response(body)


# Round trips of answers.

logprobs = st.builds(
    TokenLogprob, texts, st.floats(-50, 0), st.binary(max_size=4), st.just((TokenLogprob("a", -1.0, b"a"),))
)


@st.composite
def answers(draw: st.DrawFn) -> GenerateResponse:
    """An answer that the format can say without loss."""
    calls = draw(call_lists("call_"))
    return GenerateResponse(
        content=draw(st.just("") | texts),
        reasoning=draw(st.just("") | texts),
        tool_calls=calls,
        logprobs=tuple(draw(st.lists(logprobs, max_size=2))),
        finish_reason="tool_calls" if calls else draw(st.sampled_from(["stop", "length"])),
        usage=draw(st.none() | st.builds(Usage, st.integers(0, 99), st.integers(0, 99))),
        model="qwen3",
    )


@settings(max_examples=50)
@given(answers())
def test_a_whole_answer_that_is_encoded_is_understood(answer: GenerateResponse) -> None:
    assert CODEC.decode_response(json.dumps(CODEC.encode_response(answer)).encode()) == answer


@settings(max_examples=50)
@given(answers(), st.integers(1, 5))
def test_a_stream_that_is_encoded_is_understood(answer: GenerateResponse, size: int) -> None:
    deltas = [GenerateResponse(reasoning=text) for text in in_pieces(answer.reasoning, size)]
    deltas += [GenerateResponse(content=text) for text in in_pieces(answer.content, size)]
    deltas += [GenerateResponse(logprobs=(one,)) for one in answer.logprobs]
    for call in call_deltas(answer.tool_calls):
        deltas.append(GenerateResponse(tool_call_deltas=(replace(call, arguments=""),)))
        parts = in_pieces(call.arguments, size)
        deltas += [GenerateResponse(tool_call_deltas=(ToolCallDelta(call.index, arguments=text),)) for text in parts]
    deltas.append(replace(answer, content="", reasoning="", tool_calls=(), logprobs=()))
    found = decoded(CODEC.stream_decoder(), [encoded(CODEC.stream_encoder(REQUEST), deltas)])
    assert nothing_empty(found)
    assert join(found) == join(deltas) == answer


def test_the_models_name_may_come_early() -> None:
    deltas = [GenerateResponse(content="A", model="other"), GenerateResponse(finish_reason="stop")]
    data = encoded(CODEC.stream_encoder(REQUEST), deltas)
    assert join(decoded(CODEC.stream_decoder(), [data])).model == "other"


def test_a_whole_answer_can_be_streamed_as_one_delta() -> None:
    answer = GenerateResponse(
        "A", tool_calls=(ToolCall("a", "f", {"x": 1}),), finish_reason="tool_calls", model="qwen3"
    )
    data = encoded(CODEC.stream_encoder(REQUEST), [answer])
    assert join(decoded(CODEC.stream_decoder(), [data])) == answer


# What a server says.


def test_a_stream_has_the_lines_that_clients_expect() -> None:
    end = GenerateResponse(finish_reason="length", usage=Usage(1, 2), timings=Timings(0.5, 1.0, 2.0))
    data = encoded(CODEC.stream_encoder(REQUEST), [GenerateResponse(content="A"), end])
    first, last = map(json.loads, data.splitlines())
    assert first["message"] == {"role": "assistant", "content": "A"}
    assert (first["model"], first["done"]) == ("qwen3", False)
    assert first["created_at"].endswith("Z")
    assert (last["done"], last["done_reason"], last["message"]["content"]) == (True, "length", "")
    assert (last["prompt_eval_count"], last["eval_count"]) == (1, 2)
    durations = [last[f"{name}_duration"] for name in ("total", "load", "prompt_eval", "eval")]
    assert durations == [3_500_000_000, 500_000_000, 1_000_000_000, 2_000_000_000]


@pytest.mark.parametrize(("error", "message"), [(GenerationError("broken"), "broken"), (KeyError("secret"), "failed")])
def test_errors_are_reported_without_what_is_inside(error: Exception, message: str) -> None:
    data = CODEC.stream_encoder(REQUEST).fail(error)
    assert b"secret" not in data
    with pytest.raises(ProviderAPIError, match=message):
        CODEC.stream_decoder().feed(data)


def test_several_answers_cannot_be_said() -> None:
    several = GenerateResponse(choices=(GenerateResponse(), GenerateResponse(choice=1)))
    with pytest.raises(UnsupportedFeatureError, match="one answer"):
        CODEC.encode_response(several)


def test_a_cut_stream_has_its_own_error() -> None:
    with pytest.raises(ProviderConnectionError, match="cut off"):
        CODEC.stream_decoder().end()
