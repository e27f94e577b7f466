"""Chat Completions as services stream them, cut at every byte; and what they leave out or do differently."""

from __future__ import annotations

import json
from typing import Any

import pytest

from abstractllm.accumulator import join
from abstractllm.errors import (
    AuthenticationError,
    ContextWindowExceededError,
    GenerationError,
    ProviderAPIError,
    ProviderConnectionError,
    QuotaExceededError,
)
from abstractllm.types import GenerateRequest, GenerateResponse, Message, TokenLogprob, ToolCall, ToolCallDelta, Usage
from abstractllm.wire.openai_chat import ChatQuirks, OpenAIChat

from .streams import at_every_cut, events, until_error, whole

NEW = OpenAIChat(provider="acme").stream_decoder
LENIENT = OpenAIChat(ChatQuirks(done_marker=False)).stream_decoder

OPENAI = events(
    '{"id":"chatcmpl-B1","object":"chat.completion.chunk","created":1750000000,"model":"gpt-4o-mini-2024-07-18",'
    '"service_tier":"default","system_fingerprint":"fp_34a5","choices":[{"index":0,"delta":{"role":"assistant",'
    '"content":"","refusal":null},"logprobs":null,"finish_reason":null}],"usage":null}',
    '{"id":"chatcmpl-B1","object":"chat.completion.chunk","model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,'
    '"delta":{"content":"Grüße"},"logprobs":null,"finish_reason":null}],"usage":null,"obfuscation":"x"}',
    '{"id":"chatcmpl-B1","object":"chat.completion.chunk","model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,'
    '"delta":{"content":" 🌍\\n\\u00e9"},"logprobs":null,"finish_reason":null}],"usage":null}',
    '{"id":"chatcmpl-B1","object":"chat.completion.chunk","model":"gpt-4o-mini-2024-07-18","choices":[{"index":0,'
    '"delta":{},"logprobs":null,"finish_reason":"stop"}],"usage":null}',
    '{"id":"chatcmpl-B1","object":"chat.completion.chunk","model":"gpt-4o-mini-2024-07-18","choices":[],"usage":'
    '{"prompt_tokens":19,"completion_tokens":10,"total_tokens":29,"prompt_tokens_details":{"cached_tokens":3,'
    '"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":2,"audio_tokens":0}}}',
    "[DONE]",
)

OPENAI_TOOLS = events(
    '{"id":"c","model":"gpt","choices":[{"index":0,"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,'
    '"id":"call_A","type":"function","function":{"name":"weather","arguments":""}}]},"finish_reason":null}]}',
    '{"id":"c","model":"gpt","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\\"ci"}}]},'
    '"finish_reason":null}]}',
    '{"id":"c","model":"gpt","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"ty\\":1}"'
    '}}]},"finish_reason":null}]}',
    '{"id":"c","model":"gpt","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_B","type":"function",'
    '"function":{"name":"time","arguments":"{}"}}]},"finish_reason":null}]}',
    '{"id":"c","model":"gpt","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}',
    "[DONE]",
)

AZURE = events(
    '{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0,'
    '"content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}}]}',
    '{"choices":[{"content_filter_results":{},"delta":{"content":"","refusal":null,"role":"assistant"},"finish_reason":'
    'null,"index":0,"logprobs":null}],"created":1,"id":"c","model":"gpt-4o","object":"chat.completion.chunk"}',
    '{"choices":[{"content_filter_results":{"hate":{"filtered":false}},"delta":{"content":"Hi"},"finish_reason":null,'
    '"index":0}],"model":"gpt-4o"}',
    '{"choices":[{"content_filter_offsets":{"check_offset":1},"content_filter_results":{},"finish_reason":null,'
    '"index":0}],"model":""}',
    '{"choices":[{"content_filter_results":{},"delta":{},"finish_reason":"content_filter","index":0}],"model":"gpt-4o"}',
    "[DONE]",
    end="\r\n",
)

VLLM = events(
    '{"id":"chatcmpl-1","object":"chat.completion.chunk","model":"Qwen/Qwen3-8B","choices":[{"index":0,"delta":{"role":'
    '"assistant","content":""},"logprobs":null,"finish_reason":null}],"prompt_token_ids":null}',
    '{"id":"chatcmpl-1","model":"Qwen/Qwen3-8B","choices":[{"index":0,"delta":{"reasoning_content":"Let me"},'
    '"logprobs":null,"finish_reason":null,"token_ids":null}],"usage":{"prompt_tokens":5,"total_tokens":6,"completion_tokens":1}}',
    '{"id":"chatcmpl-1","model":"Qwen/Qwen3-8B","choices":[{"index":0,"delta":{"content":"No"},"logprobs":{"content":['
    '{"token":"No","logprob":-0.5,"bytes":[78,111],"top_logprobs":[{"token":"Yes","logprob":-1.5,"bytes":null}]}]},'
    '"finish_reason":null}],"usage":{"prompt_tokens":5,"total_tokens":7,"completion_tokens":2}}',
    '{"id":"chatcmpl-1","model":"Qwen/Qwen3-8B","choices":[{"index":0,"delta":{"content":""},"logprobs":null,'
    '"finish_reason":"stop","stop_reason":"END"}],"usage":{"prompt_tokens":5,"total_tokens":8,"completion_tokens":3}}',
    '{"id":"chatcmpl-1","model":"Qwen/Qwen3-8B","choices":[],"usage":{"prompt_tokens":5,"total_tokens":9,'
    '"completion_tokens":4,"prompt_tokens_details":null}}',
    "[DONE]",
)

MLX_SERVER = b": keepalive 512/2048\n\n: keepalive 2048/2048\n\n" + events(
    '{"id":"chatcmpl-5","system_fingerprint":"0.32","object":"chat.completion.chunk","model":"default_model","created":1,"choices":'
    '[{"index":0,"finish_reason":null,"delta":{"role":"assistant","content":"","reasoning":"Hm"}}]}',
    '{"id":"chatcmpl-5","model":"default_model","choices":[{"index":0,"finish_reason":null,"delta":{"role":"assistant",'
    '"content":"Hi","reasoning":"","tool_calls":[]}}]}',
    '{"id":"chatcmpl-5","model":"default_model","choices":[{"index":0,"finish_reason":"tool_calls","delta":{"role":'
    '"assistant","content":"","reasoning":"","tool_calls":[{"function":{"name":"f","arguments":"{\\"a\\": 1}"},"type":'
    '"function","id":"7c1e"}]}}]}',
    '{"id":"chatcmpl-5","model":"default_model","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}',
    "[DONE]",
)

OPENROUTER = b": OPENROUTER PROCESSING\n\n" + events(
    '{"id":"gen-1","provider":"Anthropic","model":"anthropic/claude","choices":[{"index":0,"delta":{"role":"assistant",'
    '"content":"","reasoning":"So","reasoning_details":[{"type":"reasoning.text","text":"So"}]},"finish_reason":null,'
    '"native_finish_reason":null,"logprobs":null}]}',
    '{"id":"gen-1","model":"anthropic/claude","choices":[{"index":0,"delta":{"role":"assistant","content":"",'
    '"reasoning_details":[{"type":"reasoning.encrypted","data":"c2ln"}]},"finish_reason":null}]}',
    '{"id":"gen-1","model":"anthropic/claude","choices":[{"index":0,"delta":{"role":"assistant","content":"Yes"},'
    '"finish_reason":"stop","native_finish_reason":"end_turn"}]}',
    '{"id":"gen-1","model":"anthropic/claude","choices":[{"index":0,"delta":{"role":"assistant","content":""},'
    '"finish_reason":null}],"usage":{"prompt_tokens":8,"completion_tokens":2,"cost":0.01}}',
    "[DONE]",
)

GEMINI = events(
    '{"choices":[{"delta":{"role":"assistant","tool_calls":[{"extra_content":{"google":{"thought_signature":"AQ=="}},'
    '"function":{"arguments":"{\\"c\\":\\"Rome\\"}","name":"weather"},"id":"f-1","index":0,"type":"function"}]},"index":0}],'
    '"created":1,"id":"x","model":"gemini-2.5-flash","object":"chat.completion.chunk"}',
    '{"choices":[{"delta":{"role":"assistant","tool_calls":[{"function":{"arguments":"{\\"c\\":\\"Oslo\\"}","name":'
    '"weather"},"id":"f-2","index":0,"type":"function"}]},"finish_reason":"stop","index":0}],"model":"gemini-2.5-flash",'
    '"usage":{"completion_tokens":9,"prompt_tokens":4,"total_tokens":30}}',
    "[DONE]",
)

DEEPSEEK = b": keep-alive\n\n" + events(
    '{"id":"d","object":"chat.completion.chunk","model":"deepseek-reasoner","choices":[{"index":0,"delta":{"role":'
    '"assistant","content":null,"reasoning_content":""},"logprobs":null,"finish_reason":null}]}',
    '{"id":"d","model":"deepseek-reasoner","choices":[{"index":0,"delta":{"content":null,"reasoning_content":"嗯"},'
    '"logprobs":null,"finish_reason":null}]}',
    '{"id":"d","model":"deepseek-reasoner","choices":[{"index":0,"delta":{"content":"好","reasoning_content":null},'
    '"logprobs":null,"finish_reason":null}]}',
    '{"id":"d","model":"deepseek-reasoner","choices":[{"index":0,"delta":{"content":"","reasoning_content":null},'
    '"finish_reason":"length"}],"usage":{"prompt_tokens":6,"completion_tokens":12,"prompt_cache_hit_tokens":4,'
    '"prompt_cache_miss_tokens":2,"completion_tokens_details":{"reasoning_tokens":10}}}',
    "[DONE]",
)

EXPECTED = {
    "openai": (
        OPENAI,
        GenerateResponse(
            "Grüße 🌍\né", finish_reason="stop", usage=Usage(19, 10, 3, 2), model="gpt-4o-mini-2024-07-18"
        ),
    ),
    "openai tools": (
        OPENAI_TOOLS,
        GenerateResponse(
            tool_calls=(ToolCall("call_A", "weather", {"city": 1}), ToolCall("call_B", "time", {})),
            finish_reason="tool_calls",
            model="gpt",
        ),
    ),
    "azure": (AZURE, GenerateResponse("Hi", finish_reason="content_filter", model="gpt-4o")),
    "vllm": (
        VLLM,
        GenerateResponse(
            "No",
            "Let me",
            finish_reason="stop",
            usage=Usage(5, 4),
            stop_string="END",
            model="Qwen/Qwen3-8B",
            logprobs=(TokenLogprob("No", -0.5, b"No", (TokenLogprob("Yes", -1.5, b"Yes"),)),),
        ),
    ),
    "mlx_lm.server": (
        MLX_SERVER,
        GenerateResponse(
            "Hi",
            "Hm",
            (ToolCall("7c1e", "f", {"a": 1}),),
            finish_reason="tool_calls",
            usage=Usage(3, 4),
            model="default_model",
        ),
    ),
    "openrouter": (
        OPENROUTER,
        GenerateResponse(
            "Yes",
            "So",
            finish_reason="stop",
            usage=Usage(8, 2),
            model="anthropic/claude",
            provider_data={
                "openai_chat": {
                    "reasoning_details": [
                        {"type": "reasoning.text", "text": "So"},
                        {"type": "reasoning.encrypted", "data": "c2ln"},
                    ]
                }
            },
        ),
    ),
    "gemini": (
        GEMINI,
        GenerateResponse(
            tool_calls=(ToolCall("f-1", "weather", {"c": "Rome"}), ToolCall("f-2", "weather", {"c": "Oslo"})),
            finish_reason="tool_calls",
            usage=Usage(4, 9),
            model="gemini-2.5-flash",
            provider_data={"openai_chat": {"extra_content": [{"google": {"thought_signature": "AQ=="}}, None]}},
        ),
    ),
    "deepseek": (
        DEEPSEEK,
        GenerateResponse("好", "嗯", finish_reason="length", usage=Usage(6, 12, 4, 10), model="deepseek-reasoner"),
    ),
}


@pytest.mark.parametrize("service", EXPECTED)
def test_each_service_says_the_same_wherever_its_bytes_are_cut(service: str) -> None:
    data, expected = EXPECTED[service]
    deltas = whole(NEW, data)
    assert join(deltas) == expected
    assert [delta.finish_reason for delta in deltas[:-1]] == [None] * (len(deltas) - 1)


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> str:
    return json.dumps({"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **more}]})


def calls(*pieces: dict[str, Any], finish: str | None = "stop") -> list[ToolCallDelta]:
    """Return what a stream says of calls, a chunk for each piece; the whole answer ends for the calls' sake."""
    data = events(*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, finish), "[DONE]")
    deltas = whole(NEW, data)
    assert deltas[-1].finish_reason == "tool_calls"
    return [piece for delta in deltas for piece in delta.tool_call_deltas]


def call(arguments: object = "", name: str | None = None, **more: Any) -> dict[str, Any]:
    return {**more, "function": {"arguments": arguments, **({"name": name} if name else {})}}


def test_a_call_without_index_continues_the_last_one() -> None:
    assert calls(call("{", "f", id="a"), call("}"), call("{}", "g", id="b")) == [
        ToolCallDelta(0, "a", "f", "{"),
        ToolCallDelta(0, arguments="}"),
        ToolCallDelta(1, "b", "g", "{}"),
    ]


def test_a_call_without_index_is_found_by_its_id() -> None:
    assert calls(call("{", "f", id="a"), call("{}", "g", id="b"), call("}", id="a")) == [
        ToolCallDelta(0, "a", "f", "{"),
        ToolCallDelta(1, "b", "g", "{}"),
        ToolCallDelta(0, arguments="}"),
    ]


def test_a_new_id_at_a_known_index_is_a_new_call() -> None:
    assert calls(
        call("{", "f", index=0, id="a"), call("}", index=0), call("{", "f", index=0, id="b"), call("}", index=0)
    ) == [
        ToolCallDelta(0, "a", "f", "{"),
        ToolCallDelta(0, arguments="}"),
        ToolCallDelta(1, "b", "f", "{"),
        ToolCallDelta(1, arguments="}"),
    ]


def test_an_id_that_is_repeated_begins_no_call() -> None:
    assert calls(call("{", "f", index=0, id="a"), call("}", "f", index=0, id="a")) == [
        ToolCallDelta(0, "a", "f", "{"),
        ToolCallDelta(0, arguments="}"),
    ]


@pytest.mark.parametrize("identity", [{}, {"id": ""}, {"id": None}])
def test_calls_without_ids_get_some(identity: dict[str, Any]) -> None:
    assert calls(call("{}", "f", index=0, **identity), call("{}", "g", index=1, **identity)) == [
        ToolCallDelta(0, "call_0", "f", "{}"),
        ToolCallDelta(1, "call_1", "g", "{}"),
    ]


def test_whole_calls_of_one_name_without_ids_at_one_index_are_several() -> None:
    assert calls(call('{"a":1}', "f", index=0), call('{"a":2}', "f", index=0), call("{}", "g", index=0)) == [
        ToolCallDelta(0, "call_0", "f", '{"a":1}'),
        ToolCallDelta(1, "call_1", "f", '{"a":2}'),
        ToolCallDelta(2, "call_2", "g", "{}"),
    ]


def test_a_name_that_is_repeated_with_each_piece_begins_no_call() -> None:
    assert calls(call('{"a"', "f", index=0), call(":1}", "f", index=0)) == [
        ToolCallDelta(0, "call_0", "f", '{"a"'),
        ToolCallDelta(0, arguments=":1}"),
    ]


def test_an_id_that_comes_late_begins_no_call() -> None:
    assert calls(call("{", "f", index=0), call("}", index=0, id="late")) == [
        ToolCallDelta(0, "call_0", "f", "{"),
        ToolCallDelta(0, arguments="}"),
    ]


def test_a_name_may_come_after_the_id() -> None:
    assert calls(call(index=0, id="a"), call("{}", "f", index=0)) == [
        ToolCallDelta(0, "a"),
        ToolCallDelta(0, None, "f", "{}"),
    ]


@pytest.mark.parametrize(("value", "text"), [({"é": [1]}, '{"é":[1]}'), (None, ""), ("", "")])
def test_arguments_may_be_an_object_or_nothing(value: object, text: str) -> None:
    assert calls(call(value, "f", index=0, id="a")) == [ToolCallDelta(0, "a", "f", text)]


def test_indices_may_begin_anywhere_and_calls_may_interleave() -> None:
    assert calls(
        call("{", "f", index=4, id="a"), call("[", "g", index=7, id="b"), call("}", index=4), call("]", index=7)
    ) == [
        ToolCallDelta(0, "a", "f", "{"),
        ToolCallDelta(1, "b", "g", "["),
        ToolCallDelta(0, arguments="}"),
        ToolCallDelta(1, arguments="]"),
    ]


def test_a_piece_of_a_call_that_says_nothing_is_no_delta() -> None:
    assert len(calls(call("{}", "f", index=0, id="a"), call("", index=0), {"index": 0})) == 1


@pytest.mark.parametrize("choices", ['"choices":[],', '"choices":null,', ""])
def test_usage_comes_with_empty_missing_or_no_choices(choices: str) -> None:
    usage = f'{{{choices}"usage":{{"prompt_tokens":1,"completion_tokens":2}}}}'
    answer = join(whole(NEW, events(chunk({"content": "a"}, "stop"), usage, "[DONE]")))
    assert answer == GenerateResponse("a", finish_reason="stop", usage=Usage(1, 2), model="m")


def test_keepalives_of_all_kinds_are_nothing() -> None:
    data = b": hello\n\n:\n\nevent: ping\ndata: {}\n\ndata:\n\n" + events(chunk({"content": "a"}, "stop"), "[DONE]")
    assert join(whole(NEW, data)).content == "a"


def test_an_answer_without_a_reason_to_end_has_ended_when_the_stream_says_so() -> None:
    assert join(whole(NEW, events(chunk({"content": "a"}), "[DONE]"))).finish_reason == "stop"


def test_a_refusal_is_the_content_of_a_filtered_answer() -> None:
    answer = join(whole(NEW, events(chunk({"refusal": "No"}), chunk({"refusal": "."}), chunk({}, "stop"), "[DONE]")))
    assert (answer.content, answer.finish_reason) == ("No.", "content_filter")


def test_thinking_in_content_that_is_a_list() -> None:
    think = {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "b"}]}]}
    said = {"content": [{"type": "text", "text": "a"}, "!"]}
    answer = join(whole(NEW, events(chunk(think), chunk(said), chunk({}, "stop"), "[DONE]")))
    assert (answer.content, answer.reasoning) == ("a!", "b")


def test_several_answers_come_in_turn() -> None:
    def of(index: int, delta: dict[str, Any], finish: str | None = None) -> str:
        return json.dumps({"choices": [{"index": index, "delta": delta, "finish_reason": finish}]})

    usage = '{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}'
    data = events(
        of(1, {"content": "b"}), of(0, {"content": "a"}), of(1, {}, "length"), of(0, {}, "stop"), usage, "[DONE]"
    )
    first = GenerateResponse("a", finish_reason="stop", usage=Usage(1, 2))
    second = GenerateResponse("b", finish_reason="length", choice=1)
    assert join(whole(NEW, data)).choices == (first, second)


# Ends and errors.

GOOD = events(chunk({"content": "a"}), chunk({"content": "b"}, "stop"))


def test_a_stream_without_its_end_marker_was_cut_off() -> None:
    for place in range(len(GOOD)):
        _, error = until_error(NEW(), [GOOD[:place]])
        assert isinstance(error, ProviderConnectionError), place
        assert error.provider == "acme"
    deltas, error = at_every_cut(NEW, GOOD)
    assert [delta.content for delta in deltas] == ["a", "b"]
    assert "cut off" in str(error)


def test_a_service_may_do_without_the_end_marker() -> None:
    assert join(whole(LENIENT, GOOD)) == GenerateResponse("ab", finish_reason="stop", model="m")
    assert join(whole(LENIENT, GOOD + events("[DONE]"))).content == "ab"
    for place in range(GOOD.index(b'"b"')):
        assert isinstance(until_error(LENIENT(), [GOOD[:place]])[1], ProviderConnectionError)


@pytest.mark.parametrize(
    "end", [b"data: [DONE]", b"data:[DONE]\n", b"data: [DONE] \n\n", b"data: [DONE]\n\ndata: {oops\n\n"]
)
def test_the_end_marker_in_its_forms(end: bytes) -> None:
    assert join(whole(NEW, GOOD + end)).content == "ab"


@pytest.mark.parametrize(
    "bad", [b"{oops", b'"text"', b"[1]", b'{"choices":7}', b'{"choices":[{"delta":{"content":"\xff"}}]}']
)
def test_what_is_no_piece_of_an_answer_is_an_error(bad: bytes) -> None:
    deltas, error = at_every_cut(NEW, GOOD + b"data: " + bad + b"\n\n" + events("[DONE]"))
    assert type(error) is GenerationError
    assert [delta.content for delta in deltas] == ["a", "b"]
    _, error = until_error(NEW(), [GOOD + b"data: " + bad])
    assert isinstance(error, ProviderConnectionError)


def test_a_stream_without_an_answer_is_an_error() -> None:
    assert type(at_every_cut(NEW, events("[DONE]"))[1]) is GenerationError


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ('{"error":{"message":"Slow","type":"rate_limit_error","code":null}}', QuotaExceededError),
        ('{"error":{"message":"Gone","code":502},"choices":[{"delta":{},"finish_reason":"error"}]}', ProviderAPIError),
        ('{"error":"text"}', ProviderAPIError),
        ('{"object":"error","message":"Wrong key","type":"authentication_error","code":401}', AuthenticationError),
        ('{"message":"Wrong","code":"invalid_api_key"}', AuthenticationError),
        ('{"detail":"Broken"}', ProviderAPIError),
        ('{"error":{"message":"is too long: 9 tokens > 8 maximum"},"choices":"none"}', ContextWindowExceededError),
        (chunk({}, "error"), ProviderAPIError),
    ],
)  # fmt: skip
def test_errors_in_the_middle_of_a_stream_are_what_they_are_outside(event: str, kind: type) -> None:
    deltas, error = at_every_cut(NEW, events(chunk({"content": "a"}), event, "[DONE]"))
    assert type(error) is kind
    assert [delta.content for delta in deltas] == ["a"]
    assert type(at_every_cut(NEW, events(event, "[DONE]"))[1]) is kind


def test_our_own_errors_come_back() -> None:
    encoder = OpenAIChat().stream_encoder(GenerateRequest((Message("user", "Hi"),), stream=True))
    data = encoder.encode(GenerateResponse("a")) + encoder.fail(QuotaExceededError("Slow down"))
    deltas, error = at_every_cut(NEW, data)
    assert [delta.content for delta in deltas] == ["a"]
    assert type(error) is QuotaExceededError


def test_whole_calls_and_several_answers_in_one_delta_are_encoded() -> None:
    request = GenerateRequest((Message("user", "Hi"),), stream=True)
    encoder = OpenAIChat(new_id=lambda: "1", clock=lambda: 5.9).stream_encoder(request)
    first = GenerateResponse("a", tool_calls=(ToolCall("x", "f", {"a": 1}),), finish_reason="tool_calls", model="m")
    second = GenerateResponse("b", finish_reason="stop", choice=1, model="m")
    both = GenerateResponse(choices=(first, second))
    data = encoder.encode(both) + encoder.end()
    assert data.startswith(
        b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":5,"model":"m","choices":['
    )
    assert join(until_error(NEW(), [data])[0]).choices == (first, second)
