"""Chat Completions: requests and whole answers, there and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.accumulator import join
from abstractllm.errors import (
    GenerationError,
    InvalidParameterError,
    InvalidRequestError,
    ProviderAPIError,
    QuotaExceededError,
    UnsupportedFeatureError,
)
from abstractllm.schema import Grammar, Regex, to_output_format
from abstractllm.types import (
    DocumentPart,
    GenerateRequest,
    GenerateResponse,
    ImagePart,
    Message,
    TextPart,
    TokenLogprob,
    ToolCall,
    ToolDefinition,
    Usage,
)
from abstractllm.wire.openai_chat import EXTENDED, STANDARD, ChatQuirks, OpenAIChat

from . import samples
from .streams import until_error

USER = (Message("user", "Hi"),)
PLAIN = OpenAIChat()
OTHER = OpenAIChat(
    ChatQuirks(
        accepted=EXTENDED,
        max_tokens="max_completion_tokens",
        system="developer",
        any_tool="any",
        seed="random_seed",
        json_object=False,
        reasoning="reasoning",
        reasoning_field="reasoning",
        reasoning_back="reasoning",
        structured_outputs=frozenset({"regex", "grammar"}),
        stream_usage=False,
    )
)

OWN = st.fixed_dictionaries(
    {"openai_chat": st.just({"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]})}
)
names = st.none() | samples.names
turns = st.one_of(
    st.builds(Message, st.just("system"), samples.texts | samples.text_parts),
    st.builds(Message, st.just("user"), samples.texts | samples.user_parts, names),
    st.builds(Message, st.just("tool"), samples.texts | samples.text_parts, tool_call_id=samples.names),
    st.builds(
        Message,
        st.just("assistant"),
        samples.words | samples.text_parts.filter(bool),
        tool_calls=st.lists(samples.calls, max_size=2).map(tuple),
        provider_data=st.none() | OWN,
    ),
    st.builds(Message, st.just("assistant"), tool_calls=st.lists(samples.calls, min_size=1, max_size=2).map(tuple)),
)


@st.composite
def requests(draw: st.DrawFn, *, extended: bool) -> GenerateRequest:
    optional = samples.optional
    formats = samples.formats
    if extended:
        formats |= st.sampled_from([to_output_format(Regex("a+")), to_output_format(Grammar('start: "a"'))])
    offered = draw(samples.tools)
    return GenerateRequest(
        tuple(draw(st.lists(turns, min_size=1, max_size=4))),
        tools=offered,
        stream=draw(st.booleans()),
        model=draw(st.none() | samples.words),
        max_tokens=draw(st.none() | st.integers(1, 10**6)),
        temperature=draw(optional(0, 2)),
        top_p=draw(optional(0.01, 1)),
        top_k=draw(st.none() | st.integers(1, 100)) if extended else None,
        min_p=draw(optional(0, 1)) if extended else None,
        repetition_penalty=draw(optional(0.1, 2)) if extended else None,
        seed=draw(st.none() | st.integers(0, 2**32)),
        stop=tuple(draw(st.lists(samples.words, max_size=2))),
        n=draw(st.integers(1, 4)),
        logprobs=draw(st.booleans()),
        top_logprobs=draw(st.none() | st.integers(0, 20)),
        logit_bias=draw(st.none() | st.dictionaries(st.integers(0, 10**5), st.floats(-100, 100), max_size=2)),
        presence_penalty=draw(optional(-2, 2)),
        frequency_penalty=draw(optional(-2, 2)),
        tool_choice=draw(samples.choices if offered else samples.forced),
        response_format=draw(formats),
        reasoning=draw(samples.efforts),
        options=draw(st.dictionaries(st.sampled_from(["user", "service_tier", "chat_template_kwargs"]), samples.words)),
    )


def through_json(body: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(body))


@settings(max_examples=30)
@given(requests(extended=False))
def test_requests_come_back_as_they_were(request: GenerateRequest) -> None:
    assert PLAIN.decode_request(through_json(PLAIN.encode_request(request))) == request


@settings(max_examples=30)
@given(requests(extended=True), st.none() | samples.words)
def test_requests_come_back_with_other_quirks(request: GenerateRequest, thought: str | None) -> None:
    turns = tuple(replace(one, reasoning=thought) if one.role == "assistant" else one for one in request.messages)
    request = replace(request, messages=turns)
    assert OTHER.decode_request(through_json(OTHER.encode_request(request))) == request


@settings(max_examples=30)
@given(samples.answers(several=True, drafted=True, stops=True))
def test_answers_come_back_as_they_were(answer: GenerateResponse) -> None:
    for codec in (PLAIN, OTHER):
        body = json.dumps(codec.encode_response(answer)).encode()
        found = codec.decode_response(body)
        assert found == answer
        assert found.raw_response == json.loads(body)


@settings(max_examples=30)
@given(samples.answers(several=True, drafted=True, stops=True), st.integers(1, 5), st.integers(1, 400))
def test_streams_join_to_the_answer(answer: GenerateResponse, size: int, cut: int) -> None:
    for codec in (PLAIN, OTHER):
        encoder = codec.stream_encoder(GenerateRequest(USER, stream=True))
        data = b"".join(map(encoder.encode, samples.deltas_of(answer, size))) + encoder.end()
        deltas, error = until_error(codec.stream_decoder(), samples.pieces_of(data, cut))
        assert error is None
        assert join(deltas) == answer


def test_what_a_service_wants_back_goes_there_and_back() -> None:
    own = {
        "reasoning_details": [{"type": "reasoning.text", "signature": "s"}],
        "extra_content": [None, {"google": {"thought_signature": "t"}}],
    }
    calls = (ToolCall("a", "f", {}), ToolCall("b", "f", {}))
    answer = GenerateResponse(
        tool_calls=calls, finish_reason="tool_calls", model="m", provider_data={"openai_chat": own}
    )
    assert PLAIN.decode_response(json.dumps(PLAIN.encode_response(answer)).encode()) == answer
    request = GenerateRequest((answer.to_message(),), model="m")
    assert PLAIN.decode_request(through_json(PLAIN.encode_request(request))) == request
    encoder = PLAIN.stream_encoder(GenerateRequest(USER, stream=True))
    data = b"".join(map(encoder.encode, samples.deltas_of(answer, 3))) + encoder.end()
    deltas, _ = until_error(PLAIN.stream_decoder(), [data])
    assert join(deltas) == answer


def test_a_request_as_openai_documents_it() -> None:
    tool = ToolDefinition("f", "Does.", EMPTY)
    request = GenerateRequest(
        (
            Message("system", "Be brief."),
            Message("user", (TextPart("See", "a.txt"), ImagePart(b"\x00", "image/png"), PDF)),
            Message("assistant", tool_calls=(ToolCall("c1", "f", {"é": 1}),)),
            Message("tool", "42", tool_call_id="c1"),
        ),
        tools=(tool,),
        model="gpt",
        stream=True,
        max_tokens=5,
        tool_choice="f",
        reasoning="low",
        options={"user": "u"},
    )  # fmt: skip
    quirks = ChatQuirks(max_tokens="max_completion_tokens", system="developer")
    assert OpenAIChat(quirks).encode_request(request) == {
        "model": "gpt",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "See"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                    {"type": "file", "file": {"filename": "document.pdf", "file_data": DATA}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"é":1}'}}],
            },
            {"role": "tool", "content": "42", "tool_call_id": "c1"},
        ],
        "max_completion_tokens": 5,
        "tools": [{"type": "function", "function": {"name": "f", "description": "Does.", "parameters": EMPTY}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "reasoning_effort": "low",
        "stream": True,
        "stream_options": {"include_usage": True},
        "user": "u",
    }  # fmt: skip


DATA = "data:application/pdf;base64,JQ=="
EMPTY = {"type": "object", "properties": {}}
PDF = DocumentPart(b"%", "application/pdf")
STRICT = {
    "type": "object",
    "properties": {"a": {"type": "object", "properties": {}, "additionalProperties": False}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("schema", "strict"),
    [
        (STRICT, True),
        ({**STRICT, "required": []}, False),
        ({**STRICT, "additionalProperties": True}, False),
        ({**STRICT, "properties": {"a": {"type": "object"}}}, False),
        ({**STRICT, "allOf": [{}]}, False),
        ({"type": "array", "items": STRICT}, False),
        ({**STRICT, "properties": {"a": {"type": "array", "items": STRICT}}}, True),
        ({**STRICT, "properties": {"a": {"type": "array", "items": {"type": "object"}}}}, False),
    ],
)
def test_strict_is_asked_for_where_the_service_can(schema: dict[str, Any], strict: bool) -> None:
    output = replace(to_output_format(schema), name="list[My Type]")
    body = PLAIN.encode_request(GenerateRequest(USER, response_format=output))
    described = {"name": "list_My_Type_", "schema": schema, "strict": strict}
    assert body["response_format"] == {"type": "json_schema", "json_schema": described}


@pytest.mark.parametrize(
    ("quirk", "effort", "said"),
    [
        ("reasoning_effort", "high", {"reasoning_effort": "high"}),
        ("reasoning", "none", {"reasoning": {"effort": "none"}}),
        ("enable_thinking", "none", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("enable_thinking", "high", {"chat_template_kwargs": {"enable_thinking": True}}),
    ],
)
def test_effort_is_said_where_the_service_looks(quirk: Any, effort: Any, said: dict[str, Any]) -> None:
    codec = OpenAIChat(ChatQuirks(reasoning=quirk))
    request = GenerateRequest(USER, reasoning=effort)
    body = codec.encode_request(request)
    assert {name: value for name, value in body.items() if name not in ("messages", "model")} == said
    assert codec.decode_request(through_json(body)) == request


@pytest.mark.parametrize(
    ("given", "feature"),
    [
        ({"top_k": 3}, "top_k"),
        ({"min_p": 0.0}, "min_p"),
        ({"repetition_penalty": 1.1}, "repetition_penalty"),
        ({"priority": 1}, "priority"),
        ({"deterministic": True}, "deterministic"),
        ({"response_format": to_output_format(Regex("a"))}, "response_format"),
        ({"response_format": to_output_format(Grammar("start: A"))}, "response_format"),
        ({"messages": (Message("assistant", (ImagePart(b"x", "image/png"),)),)}, "vision"),
        ({"messages": (Message("assistant", (DocumentPart(b"x", "application/pdf"),)),)}, "documents"),
    ],
)
def test_what_cannot_be_said_is_refused(given: dict[str, Any], feature: str) -> None:
    with pytest.raises(UnsupportedFeatureError) as caught:
        PLAIN.encode_request(GenerateRequest(**{"messages": USER, **given}))
    assert caught.value.feature == feature


def test_quirks_refuse_what_a_model_does_not_take() -> None:
    reasoner = OpenAIChat(ChatQuirks(accepted=STANDARD - {"temperature"}, efforts=frozenset({"low"})))
    weak = OpenAIChat(ChatQuirks(schemas="json_object"))
    none = OpenAIChat(ChatQuirks(schemas=None))
    anything, schema = to_output_format({"type": "json_object"}), to_output_format(STRICT)
    for codec, parameters in (
        (reasoner, {"temperature": 0.0}),
        (reasoner, {"reasoning": "high"}),
        (weak, {"response_format": schema}),
        (none, {"response_format": anything}),
    ):
        with pytest.raises(UnsupportedFeatureError):
            codec.encode_request(GenerateRequest(USER, **parameters))
    body = weak.encode_request(GenerateRequest(USER, response_format=anything))
    assert body["response_format"] == {"type": "json_object"}


def test_quirks_refuse_names_and_tools_by_name() -> None:
    strict = OpenAIChat(ChatQuirks(names=False, named_tool=False))
    named = GenerateRequest((Message("user", "Hi", name="Ada"),))
    forced = GenerateRequest(USER, tools=(ToolDefinition("f", "", {}),), tool_choice="f")
    for request, feature in ((named, "name"), (forced, "tool_choice")):
        for refuse in (strict.check_request, strict.encode_request):
            with pytest.raises(UnsupportedFeatureError) as caught:
                refuse(request)
            assert caught.value.feature == feature
        PLAIN.check_request(request)
    tool = Message("tool", "7", tool_call_id="c", name="f")
    assert strict.encode_request(GenerateRequest((tool,)))["messages"][0]["name"] == "f"


def test_a_seed_and_any_object_in_other_words() -> None:
    body = OTHER.encode_request(GenerateRequest(USER, seed=7, response_format={"type": "object"}))
    assert (body["random_seed"], "seed" in body) == (7, False)
    assert body["response_format"]["type"] == "json_schema"
    assert PLAIN.decode_request({**body, "response_format": None}).options == {"random_seed": 7}


def test_options_are_merged_and_never_win_over_the_request() -> None:
    request = GenerateRequest(USER, stream=True, temperature=1.0, options={"stream_options": {"include_usage": False}})
    assert PLAIN.encode_request(request)["stream_options"] == {"include_usage": False}
    with pytest.raises(InvalidParameterError, match="temperature"):
        PLAIN.encode_request(replace(request, options={"temperature": 2}))


def test_a_stream_has_usage_only_where_it_is_wanted() -> None:
    last = GenerateResponse(finish_reason="stop", usage=Usage(1, 2), model="m")
    for asked, count in (({"include_usage": True}, 1), ({"include_usage": False}, 0), (None, 0)):
        request = PLAIN.decode_request(
            {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True, "stream_options": asked}
        )
        encoder = PLAIN.stream_encoder(request)
        data = encoder.encode(GenerateResponse("x")) + encoder.encode(last) + encoder.end()
        assert data.count(b'"usage"') == count
        assert data.endswith(b"data: [DONE]\n\n")


BAD_FILE = {"file_data": "data:a/b;base64,?"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": None}, "messages"),
        ({"messages": "Hi"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, "file_data"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": BAD_FILE}]}]}, "base64"),
        ({"temperature": "hot"}, "temperature"),
        ({"stream": "yes"}, "stream"),
        ({"model": 3}, "model"),
        ({"n": 0}, "n="),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"reasoning_effort": "huge"}, "reasoning"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused(change: dict[str, Any], message: str) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], **change}
    with pytest.raises(InvalidRequestError, match=message):
        PLAIN.decode_request(body)


def test_a_client_may_write_things_in_other_ways() -> None:
    request = PLAIN.decode_request(
        {
            "model": "m",
            "messages": [
                {"role": "developer", "content": "Brief."},
                {"role": "assistant", "content": None, "refusal": "No."},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "Nor this."}], "reasoning": "hm"},
                {"role": "user", "content": "Hi"},
            ],
            "max_tokens": None,
            "max_completion_tokens": 7,
            "stop": "END",
            "response_format": {"type": "text"},
            "tool_choice": "any",
            "reasoning_effort": "minimal",
            "structured_outputs": {"choice": ["a"]},
            "metadata": {"a": "b"},
        }
    )
    assert [turn.text for turn in request.messages] == ["Brief.", "No.", "Nor this.", "Hi"]
    assert request.messages[0].role == "system"
    assert request.messages[2].reasoning == "hm"
    assert (request.max_tokens, request.stop, request.tool_choice) == (7, ("END",), "required")
    assert (request.reasoning, request.response_format) == ("low", None)
    assert request.options == {"structured_outputs": {"choice": ["a"]}, "metadata": {"a": "b"}}


# Whole answers, as services write them.


def answer(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> GenerateResponse:
    body = {"id": "x", "choices": [{"message": {"role": "assistant", **message}, "finish_reason": finish}], **more}
    return PLAIN.decode_response(json.dumps(body).encode())


def test_calls_in_whole_answers_may_be_incomplete() -> None:
    found = answer(
        {
            "content": None,
            "tool_calls": [
                {"id": "", "type": "function", "function": {"name": "f", "arguments": ""}},
                {"function": {"name": "f", "arguments": {"a": 1}}},
                {"id": "x", "index": 0, "function": {"name": "g", "arguments": None}},
                {"id": "x", "index": 0, "function": {"name": "g", "arguments": "{oops"}},
            ],
        }
    )
    assert found.finish_reason == "tool_calls"
    assert found.tool_calls == (
        ToolCall("call_0", "f", {}),
        ToolCall("call_1", "f", {"a": 1}),
        ToolCall("x", "g", {}),
        ToolCall("x", "g", {}, invalid="{oops"),
    )


@pytest.mark.parametrize(
    ("message", "finish", "expected"),
    [
        ({"content": "a"}, None, "stop"),
        ({"content": "a"}, "eos", "stop"),
        ({"content": "a"}, "tool_calls", "stop"),
        ({"content": "a"}, "model_length", "length"),
        ({"content": "a"}, "content_filter", "content_filter"),
        ({"content": None, "refusal": "a"}, "stop", "content_filter"),
        ({"content": "a", "tool_calls": [{"function": {"name": "f"}}]}, "stop", "tool_calls"),
        ({"content": "a", "tool_calls": [{"function": {"name": "f"}}]}, "length", "length"),
    ],
)
def test_reasons_to_end(message: dict[str, Any], finish: str | None, expected: str) -> None:
    found = answer(message, finish)
    assert (found.content, found.finish_reason) == ("a", expected)


@pytest.mark.parametrize(
    "message",
    [
        {"content": "a", "reasoning_content": "b"},
        {"content": "a", "reasoning": "b"},
        {"content": "a", "reasoning": "b", "reasoning_content": "b"},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "b"}]}, {"type": "text", "text": "a"}]},
    ],
)
def test_reasoning_by_its_names(message: dict[str, Any]) -> None:
    found = answer(message)
    assert (found.content, found.reasoning) == ("a", "b")


PREDICTED = {"accepted_prediction_tokens": 2, "rejected_prediction_tokens": 1}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"prompt_tokens": 5, "completion_tokens": 7}, Usage(5, 7)),
        ({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 3}}, Usage(5, 0, 3)),
        ({"prompt_tokens": 5, "prompt_cache_hit_tokens": 4}, Usage(5, 0, 4)),
        ({"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}, Usage(0, 9, 0, 6)),
        ({"completion_tokens_details": PREDICTED, "prompt_tokens_details": None}, Usage(0, 0, 0, 0, 3, 2)),
    ],
)  # fmt: skip
def test_usage_in_its_forms(counts: dict[str, Any], expected: Usage) -> None:
    assert answer({"content": "a"}, usage=counts).usage == expected
    assert answer({"content": "a"}, usage=None).usage is None


def test_log_probabilities_may_lack_bytes_and_be_infinite() -> None:
    tokens = [
        {"token": "é", "logprob": None, "bytes": None, "top_logprobs": [{"token": "x", "logprob": -1, "bytes": [300]}]}
    ]
    body = {"choices": [{"message": {"content": "é"}, "finish_reason": "stop", "logprobs": {"content": tokens}}]}
    found = PLAIN.decode_response(json.dumps(body).encode())
    assert found.logprobs == (TokenLogprob("é", -9999.0, "é".encode(), (TokenLogprob("x", -1.0, b"x"),)),)
    unlikely = GenerateResponse("x", logprobs=(TokenLogprob("x", -math.inf, b"x"),), finish_reason="stop")
    assert PLAIN.encode_response(unlikely)["choices"][0]["logprobs"]["content"][0]["logprob"] == -9999.0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"choices":[]}',
        b'{"choices":[3]}',
        b'{"choices":[{"message":{"content":"\xff"}}]}',
    ],
)
def test_what_is_no_answer_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(GenerationError, match="no answer"):
        PLAIN.decode_response(body)


def test_errors_instead_of_answers() -> None:
    with pytest.raises(QuotaExceededError):
        PLAIN.decode_response(b'{"error":{"message":"Slow down","code":429}}')
    with pytest.raises(ProviderAPIError, match="gave up"):
        answer({"content": "a"}, "error")


MESSAGE = {
    "role": "assistant",
    "content": [{"type": "thinking", "thinking": [{"type": "text", "text": "b"}]}, {"type": "text", "text": "a"}],
    "reasoning": "r",
    "refusal": "no",
    "reasoning_details": [{"type": "x"}],
    "tool_calls": [{"index": 0, "id": "i", "function": {"name": "f", "arguments": "{}"}, "extra_content": {"a": 1}}],
}
TOKEN = {"token": "a", "logprob": -1.0, "bytes": [97], "top_logprobs": [{"token": "b", "logprob": -2.0}]}
CHOICE = {"index": 0, "finish_reason": "stop", "stop_reason": "x", "logprobs": {"content": [TOKEN]}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
ANSWER = {"model": "m", "choices": [{**CHOICE, "message": MESSAGE}], "usage": USAGE, "error": None}
REQUEST = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "s"},
        {
            "role": "user",
            "name": "n",
            "content": [
                {"type": "text", "text": "t"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
                {"type": "file", "file": {"filename": "f", "file_data": "data:application/pdf;base64,AA=="}},
            ],
        },
        {**MESSAGE, "content": [{"type": "refusal", "refusal": "a"}]},
        {"role": "tool", "tool_call_id": "i", "content": "c"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    "structured_outputs": {"regex": "a"},
    "reasoning": {"effort": "low"},
    "chat_template_kwargs": {"enable_thinking": True},
    "stream": True,
    "stream_options": {"include_usage": True},
    "logit_bias": {"1": 2},
    "stop": ["s"],
}


def test_nothing_that_a_service_sends_breaks_the_decoders() -> None:
    for value in samples.spoiled(ANSWER):
        samples.raises_only_ours(lambda value=value: PLAIN.decode_response(json.dumps(value).encode()))
    for value in samples.spoiled({**ANSWER, "choices": [{**CHOICE, "delta": MESSAGE}]}):
        until_error(PLAIN.stream_decoder(), [b"data: " + json.dumps(value).encode() + b"\n\ndata: [DONE]\n\n"])


def test_nothing_that_a_client_sends_breaks_the_decoder() -> None:
    assert PLAIN.decode_request(REQUEST).model == "m"
    for value in samples.spoiled(REQUEST):
        samples.raises_only_ours(lambda body=value: PLAIN.stream_encoder(PLAIN.decode_request(body)))


@settings(max_examples=30)
@given(st.binary(max_size=60))
def test_no_bytes_break_the_decoders(data: bytes) -> None:
    samples.raises_only_ours(lambda: PLAIN.decode_response(data))
    until_error(PLAIN.stream_decoder(), [b"data: " + data + b"\n\n"])


def test_a_client_cannot_give_what_only_a_service_does() -> None:
    """`provider_data` stands in dicts of our own; from outside it may have any shape, and is none of this format."""
    turn = {"role": "assistant", "content": "Hi", "provider_data": {"openai_chat": 3}}
    assert PLAIN.decode_request({"model": "m", "messages": [turn]}).messages == (Message("assistant", "Hi"),)


def test_images_of_tools_follow_their_results_in_a_turn_of_the_user() -> None:
    called = Message("assistant", "", tool_calls=(ToolCall("a", "draw"), ToolCall("b", "draw")))
    drawn = Message("tool", (TextPart("A cat."), ImagePart(b"x", "image/png")), name="draw", tool_call_id="a")
    turns = PLAIN.encode_request(
        GenerateRequest((*USER, called, drawn, Message("tool", "none", tool_call_id="b"), Message("user", "Well?")))
    )["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "tool", "user", "user"]
    assert turns[2]["content"].startswith("A cat.\n")
    assert turns[3]["content"] == "none"
    assert [part["type"] for part in turns[4]["content"]] == ["text", "image_url"]
    assert turns[4]["content"][0]["text"] == "Returned by draw:"
    last = PLAIN.encode_request(GenerateRequest((*USER, called, drawn)))["messages"][-1]
    assert last == turns[4]
