"""Forms asked for by a tool or by the prompt: what comes back is one answer, however the stream is cut."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from abstractllm.accumulator import join
from abstractllm.errors import UnsupportedFeatureError
from abstractllm.schema import to_output_format
from abstractllm.types import GenerateRequest, GenerateResponse, Message, TextPart, ToolCall, ToolCallDelta, Usage
from abstractllm.wire.asking import Asking, Way, as_asked
from abstractllm.wire.openai_chat import OpenAIChat

CHAT = OpenAIChat()
FORM = to_output_format({"type": "object", "properties": {"a": {"type": "string"}}})
REQUEST = GenerateRequest((Message("user", "Hi"),), response_format=FORM)
END = GenerateResponse(finish_reason="stop", usage=Usage(3, 2), model="m")


def read(way: Way, deltas: list[GenerateResponse]) -> list[GenerateResponse]:
    """Send deltas through a service's stream, and return what users see of them."""
    encoder = CHAT.stream_encoder(REQUEST)
    decoder = Asking(CHAT, way, REQUEST).stream_decoder()
    found = [delta for one in deltas for delta in decoder.feed(encoder.encode(one))]
    return [*found, *decoder.feed(encoder.end()), *decoder.end()]


def cut(text: str, places: list[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(ends)]


cuts = st.lists(st.integers(0, 200), max_size=8)
bodies = st.sampled_from(['{"a": "`` ```x"}', "{}", "[1,\n 2]", '"```"', "no JSON", ""])
fences = st.sampled_from([("", ""), ("```json\n", "\n```"), ("\n ```\n", "```\n\n"), ("```JSON \r\n", "\r\n``` ")])


@given(bodies, fences, cuts, st.sampled_from(["prompt", "json_object", "both"]))
@settings(max_examples=150, deadline=None)
def test_a_fence_goes_wherever_a_stream_is_cut(body: str, fence: tuple[str, str], places: list[int], way: Way) -> None:
    text = fence[0] + body + fence[1]
    deltas = read(way, [*map(GenerateResponse, cut(text, places)), END])
    assert join(deltas) == replace(END, content=body)
    assert all(delta != GenerateResponse() for delta in deltas)


@given(st.sampled_from(["```python\nprint()\n``` is code", "`` x ``", "``", "``````", "x\n```\ny\n```"]), cuts)
@settings(max_examples=80, deadline=None)
def test_what_ends_otherwise_is_the_same_in_a_stream_and_whole(text: str, places: list[int]) -> None:
    streamed = join(read("prompt", [*map(GenerateResponse, cut(text, places)), END]))
    body = json.dumps(CHAT.encode_response(replace(END, content=text))).encode()
    assert Asking(CHAT, "prompt", REQUEST).decode_response(body).content == streamed.content


@given(st.sampled_from(['{"a": "b"}', '{"a": "', ""]), cuts, st.sampled_from(["", "Let me see."]), st.booleans())
@settings(max_examples=100, deadline=None)
def test_arguments_are_the_answer_wherever_a_stream_is_cut(
    text: str, places: list[int], before: str, late: bool
) -> None:
    pieces = [GenerateResponse(tool_call_deltas=(ToolCallDelta(0, arguments=piece),)) for piece in cut(text, places)]
    begun = GenerateResponse(tool_call_deltas=(ToolCallDelta(0, "c", "answer"),))
    words = [GenerateResponse(before)]
    deltas = read(
        "tool",
        [*([] if late else words), begun, *pieces, *(words if late else []), replace(END, finish_reason="tool_calls")],
    )
    assert join(deltas) == replace(END, content=text, reasoning=before)


def test_other_calls_stay_calls_and_keep_what_was_said() -> None:
    other = ToolCallDelta(0, "c", "look", "{}")
    last = replace(END, finish_reason="tool_calls")
    found = join(read("tool", [GenerateResponse("Hm."), GenerateResponse(tool_call_deltas=(other,)), last]))
    assert (found.content, found.finish_reason, found.tool_calls) == ("Hm.", "tool_calls", (ToolCall("c", "look", {}),))
    both = ToolCallDelta(1, "d", "answer", '{"a": "b"}')
    found = join(read("tool", [GenerateResponse(tool_call_deltas=(other, both)), last]))
    assert (found.content, found.finish_reason) == ('{"a": "b"}', "tool_calls")
    assert [call.name for call in found.tool_calls] == ["look"]


def test_each_of_several_answers_is_read_by_itself() -> None:
    call = ToolCall("c", "answer", {"a": "b"})
    choices = tuple(GenerateResponse(tool_calls=(call,), finish_reason="tool_calls", choice=n) for n in (0, 1))
    body = json.dumps(CHAT.encode_response(replace(choices[0], choices=choices, usage=Usage(3, 2)))).encode()
    found = Asking(CHAT, "tool", REQUEST).decode_response(body)
    assert [one.content for one in found.choices] == ['{"a":"b"}'] * 2
    assert [one.finish_reason for one in found.choices] == ["stop"] * 2
    assert (found.usage, found.raw_response) == (Usage(3, 2), json.loads(body))


def test_the_prompt_joins_the_system_turns_that_are_there() -> None:
    turns = (
        Message("system", "One."),
        Message("system", (TextPart("Two."),)),
        *REQUEST.messages,
        Message("system", "Late."),
    )
    asked = as_asked(Asking(CHAT, "prompt", REQUEST), replace(REQUEST, messages=turns))
    assert asked.messages[0] == turns[0]
    assert asked.messages[1].text.startswith("Two.")
    assert FORM.text in asked.messages[1].text
    assert asked.messages[2:] == turns[2:]
    assert asked.response_format is None
    assert as_asked(CHAT, REQUEST) is REQUEST


def test_a_tool_needs_a_form_that_is_an_object() -> None:
    listed = replace(REQUEST, response_format=to_output_format({"type": "array"}))
    with pytest.raises(UnsupportedFeatureError, match="objects only"):
        Asking(CHAT, "tool", listed).encode_request(listed)


def test_who_takes_no_names_of_tools_gets_one_tool_alone() -> None:
    tools = REQUEST.tools
    body = Asking(CHAT, "tool", REQUEST, by_name=False).encode_request(replace(REQUEST, tools=tools))
    assert (body["tool_choice"], len(body["tools"])) == ("required", 1)


def test_what_a_service_wants_back_with_the_call_is_not_kept_without_it() -> None:
    kept = {"openai_chat": {"extra_content": [{"signature": "s"}]}}
    call = ToolCall("c", "answer", {"a": "b"})
    answer = replace(END, tool_calls=(call,), finish_reason="tool_calls", provider_data=kept)
    body = json.dumps(CHAT.encode_response(answer)).encode()
    assert CHAT.decode_response(body).provider_data == kept
    assert Asking(CHAT, "tool", REQUEST).decode_response(body).provider_data is None
