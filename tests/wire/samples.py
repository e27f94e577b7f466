"""Requests and answers of any kind that OpenAI's formats can express, for properties of their codecs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from hypothesis import strategies as st

from abstractllm.accumulator import call_deltas
from abstractllm.errors import AbstractLLMError
from abstractllm.schema import to_output_format
from abstractllm.types import (
    DocumentPart,
    GenerateResponse,
    ImagePart,
    TextPart,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    ToolDefinition,
    Usage,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
words = texts.filter(bool)
names = st.from_regex(r"[a-zA-Z0-9_-]{1,12}", fullmatch=True)
values = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts
arguments = st.dictionaries(texts, values | st.lists(values, max_size=2), max_size=3)

images = st.builds(
    ImagePart, st.binary(min_size=1, max_size=8), st.sampled_from(["image/png", "image/webp"])
) | st.builds(ImagePart, st.just(b""), st.just(""), url=st.just("https://example.org/a.png"))
documents = st.builds(DocumentPart, st.binary(min_size=1, max_size=8), st.just("application/pdf"), words)
text_parts = st.lists(st.builds(TextPart, texts), max_size=3).map(tuple)
user_parts = st.lists(st.builds(TextPart, texts) | images | documents, max_size=3).map(tuple)

# A call that could not be read keeps its text, and a model may have written anything.
calls = st.builds(ToolCall, names, names, arguments) | st.builds(
    ToolCall, names, names, st.just({}), st.sampled_from(["{", "[1]", '{"a":', "null"])
)

tools = st.lists(
    st.builds(
        ToolDefinition,
        names,
        texts,
        st.sampled_from(
            [{"type": "object", "properties": {}}, {"type": "object", "properties": {"a": {"type": "string"}}}]
        ),
    ),
    max_size=2,
    unique_by=lambda tool: tool.name,
).map(tuple)

formats = st.sampled_from(
    [
        None,
        to_output_format({"type": "json_object"}),
        to_output_format({"type": "json_schema", "json_schema": {"name": "a-b", "schema": {"type": "array"}}}),
    ]
)
choices = st.sampled_from([None, "auto", "none", "required", "my_tool"])
forced = st.sampled_from([None, "required", "my_tool"])
"""Choices that are said without tools as well, for the service to refuse."""
efforts = st.sampled_from([None, "none", "low", "medium", "high"])


def optional(low: float, high: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(low, high)


logprob = st.floats(-50, 0).map(lambda value: value or 0.0)
plain_tokens = st.builds(TokenLogprob, texts, logprob, st.binary(max_size=4))
tokens = st.builds(TokenLogprob, texts, logprob, st.binary(max_size=4), st.lists(plain_tokens, max_size=2).map(tuple))
counts = st.integers(0, 10**6)


@st.composite
def answers(draw: st.DrawFn, *, several: bool, drafted: bool, stops: bool) -> GenerateResponse:
    """Return a whole answer, perhaps of `several`, with a draft model's counts and stop strings if asked for."""
    found = [draw(_answers(number, stops=stops)) for number in range(draw(st.integers(1, 3)) if several else 1)]
    accepted = draw(counts) if drafted else 0
    proposed = accepted + (draw(counts) if drafted else 0)
    usage = draw(st.none() | st.builds(Usage, counts, counts, counts, counts, st.just(proposed), st.just(accepted)))
    model = draw(words)
    whole = [replace(one, usage=usage if number == 0 else None, model=model) for number, one in enumerate(found)]
    return whole[0] if len(whole) == 1 else replace(whole[0], choices=tuple(whole))


@st.composite
def _answers(draw: st.DrawFn, choice: int, *, stops: bool) -> GenerateResponse:
    made = draw(st.lists(calls, max_size=2, unique_by=lambda call: call.id).map(tuple))
    ends = ["tool_calls", "length"] if made else ["stop", "length", "content_filter", "cancelled"]
    finish = draw(st.sampled_from(ends))
    return GenerateResponse(
        draw(texts),
        draw(texts),
        made,
        finish_reason=finish,
        stop_string=draw(st.none() | words) if stops and finish == "stop" else None,
        logprobs=draw(st.lists(tokens, max_size=2).map(tuple)),
        choice=choice,
    )


def pieces_of(text: str, size: int) -> list[str]:
    """Return a text in pieces of at most `size` characters; none for an empty one."""
    return [text[place : place + size] for place in range(0, len(text), size)]


def deltas_of(answer: GenerateResponse, size: int) -> list[GenerateResponse]:
    """Return deltas that join to an answer, whose choices come in turn."""
    streams = []
    for one in answer.choices or (answer,):
        stream = [GenerateResponse(reasoning=piece, choice=one.choice) for piece in pieces_of(one.reasoning, size)]
        stream += [GenerateResponse(piece, choice=one.choice) for piece in pieces_of(one.content, size)]
        stream += [GenerateResponse(logprobs=(token,), choice=one.choice) for token in one.logprobs]
        for call in call_deltas(one.tool_calls):
            head = ToolCallDelta(call.index, call.id, call.name)
            more = [ToolCallDelta(call.index, arguments=piece) for piece in pieces_of(call.arguments, size)]
            stream += [GenerateResponse(tool_call_deltas=(piece,), choice=one.choice) for piece in [head, *more]]
        last = GenerateResponse(
            finish_reason=one.finish_reason,
            usage=one.usage,
            stop_string=one.stop_string,
            model=one.model,
            choice=one.choice,
            provider_data=one.provider_data,
        )
        streams.append([*stream, last])
    return [delta for turn in zip_longest(*streams) for delta in turn if delta is not None]


def spoiled(value: Any) -> Iterator[Any]:
    """Yield a JSON value with each of its parts, one after the other, replaced by something else."""
    yield from (None, True, -1, 0.5, "x", "", [], [3], ["x"], [None], [[]], {}, {"x": 1})
    if isinstance(value, dict):
        for key in value:
            yield from ({**value, key: other} for other in spoiled(value[key]))
    if isinstance(value, list):
        for place in range(len(value)):
            yield from ([*value[:place], other, *value[place + 1 :]] for other in spoiled(value[place]))


def raises_only_ours(act: Callable[[], object]) -> None:
    """Do something that may work or raise an error of ours."""
    try:
        act()
    except AbstractLLMError:
        pass
