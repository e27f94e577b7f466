"""Chat templates and tokens of one model: conversation -> prompt, and the reader of the model's output.

Stands on mlx-lm's tokenizer wrapper, which knows the markers and tool-call formats of model families, or on one that
answers as it does; loads neither.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from abstractllm.errors import (
    InvalidParameterError,
    UnsupportedFeatureError,
    UnsupportedModelError,
)
from abstractllm.history import with_call_ids
from abstractllm.providers.local.vocabulary import Gate
from abstractllm.text.chat import merged_turns, template_messages, template_tools, without_system
from abstractllm.text.detokenize import ByteDetokenizer, Detokenizer, WindowDetokenizer, byte_level, piece_bytes
from abstractllm.text.reader import OutputReader
from abstractllm.text.sections import Section
from abstractllm.text.toolgrammar import CallSyntax
from abstractllm.types import GenerateRequest, Message, ToolCall, ToolDefinition


class ChatTokenizer:
    """The tokenizer of one model. Safe to use from any thread.

    `wrapper` is mlx-lm's tokenizer, or one that answers as it does. Rendering and encoding happen one at a time,
    decoding too, but beside them: a long prompt does not hold up the thread that computes. The first `encode` settles
    the library's truncation state, the one thing that encoding may change.
    """

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper
        self._rendering = threading.Lock()
        self._decoding = threading.Lock()
        self._bytes: dict[int, bytes] = {}
        self._added: dict[int, str] = {token: added.content for token, added in wrapper.added_tokens_decoder.items()}
        self._hidden = self._hidden_tokens()
        self._is_byte_level = _is_byte_level(wrapper)
        self.encode("")

    def __len__(self) -> int:
        """Return how many tokens there are."""
        return len(self._wrapper)

    @property
    def stop_tokens(self) -> set[int]:
        """Ids of the tokens that end an answer."""
        return set(self._wrapper.eos_token_ids)

    @property
    def wrapper(self) -> Any:
        """mlx-lm's tokenizer, for those who read the vocabulary. Not for encoding, which is not thread-safe in it."""
        return self._wrapper

    @property
    def tool_format(self) -> str | None:
        """The name of mlx-lm's parser for this model's tool calls, or None when it has none."""
        name: str | None = self._wrapper.init_kwargs.get("tool_parser_type")
        return name

    def render(self, messages: Sequence[Message], tools: Sequence[ToolDefinition]) -> str:
        """Return the prompt's text, with the beginning of the answer.

        Templates that refuse a system prompt or two turns of one role in a row get the conversation in a shape that
        they take. Raises UnsupportedModelError for a model without a template, UnsupportedFeatureError for tools that
        its template or parser does not know, InvalidParameterError when the template refuses every shape.
        """
        self._check_template(tools)
        failure: Exception | None = None
        for shape in _shapes(messages):
            try:
                with self._rendering:
                    return self._apply(shape, tools)
            except Exception as error:  # templates raise whatever they like
                failure = failure or error
        raise InvalidParameterError(
            "messages", f"The model's chat template refuses this conversation: {failure}", provider="mlx"
        ) from failure

    def encode(self, prompt: str) -> list[int]:
        """Return the token ids of a rendered prompt."""
        with self._rendering:
            return list(self._wrapper.encode(prompt, add_special_tokens=False, verbose=False))

    def reader(self, request: GenerateRequest, prompt: str) -> OutputReader:
        """Return the reader for the answer to `prompt`, which was rendered from `request`."""
        tools = () if request.tool_choice == "none" else request.tools
        sections = list(self._sections(bool(tools)))
        opened = [section for section in sections if prompt.rstrip().endswith(section.start)]
        return OutputReader(
            self._detokenizer(),
            stops=request.stop,
            sections=sections,
            inside=opened[0] if opened else None,
            parser=self._wrapper.tool_parser,
            json_calls=self.tool_format == "json_tools",
            tools=template_tools(tools),
            hidden=self._hidden,
            first_call=sum(len(message.tool_calls) for message in request.messages),
        )

    def gate(self, prompt: str) -> Gate | None:
        """Return what an answer to `prompt` may think before it says anything; None for a model that does not think."""
        sections = list(self._sections(with_tools=False))
        if not sections:
            return None
        thought = sections[0]
        return Gate(thought.end, "" if prompt.rstrip().endswith(thought.start) else thought.start)

    @cached_property
    def call_syntax(self) -> CallSyntax:
        """How this model writes its calls; only for families whose calls can be forced."""
        start, end = self._marker(self._wrapper.tool_call_start), self._wrapper.tool_call_end
        written = self._written_call()
        spaced = re.search(r'"a"\s*: 1', written) is not None
        if self.tool_format != "mistral":
            lines = f"{self._wrapper.tool_call_start}\n" in written
            return CallSyntax(start, self._marker(end) if end else None, spaced=spaced, lines=lines)
        if "[ARGS]" in (self._wrapper.chat_template or ""):
            return CallSyntax(start, style="header", header=self._marker("[ARGS]"), spaced=spaced)
        return CallSyntax(start, style="list", spaced=spaced)

    def _written_call(self) -> str:
        """Return a conversation with a call as the template writes it, and the model learnt it; "" if it fails."""
        call = ToolCall("call00000", "f", {"a": 1, "b": 2})
        tool = ToolDefinition("f", "F.", {"type": "object", "properties": {"a": {"type": "integer"}}})
        talk = [
            Message("user", "f"),
            Message("assistant", tool_calls=(call,)),
            Message("tool", "1", tool_call_id=call.id),
        ]
        try:
            return self.render(talk, [tool])
        except (InvalidParameterError, UnsupportedFeatureError):  # a template that takes no such history shows none
            return ""

    def _marker(self, text: str) -> int | str:
        """Return a marker as the id of its one token, or as text."""
        tokens = self.encode(text)
        return tokens[0] if len(tokens) == 1 else text

    def _apply(self, messages: Sequence[Message], tools: Sequence[ToolDefinition]) -> str:
        rendered = self._wrapper.apply_chat_template(
            template_messages(messages),
            tools=template_tools(tools) or None,
            add_generation_prompt=True,
            tokenize=False,
        )
        return str(rendered)

    def _check_template(self, tools: Sequence[ToolDefinition]) -> None:
        if not self._wrapper.has_chat_template:
            raise no_template()
        if tools and not self._wrapper.has_tool_calling:
            raise UnsupportedFeatureError(
                "tools", "No way to read this model's tool calls is known here; use another model.", provider="mlx"
            )

    def _sections(self, with_tools: bool) -> Iterator[Section]:
        """Yield the marked stretches in this model's output."""
        if self._wrapper.has_thinking:
            yield Section("reasoning", self._wrapper.think_start, self._wrapper.think_end)
        if with_tools and self._wrapper.has_tool_calling:
            yield Section("tool_call", self._wrapper.tool_call_start, self._wrapper.tool_call_end or "")

    def _hidden_tokens(self) -> set[int]:
        """Special tokens that users do not see; markers of sections are read, so they stay."""
        markers = "".join(f"{section.start}{section.end}" for section in self._sections(with_tools=True))
        added = self._wrapper.added_tokens_decoder
        return {token for token, entry in added.items() if entry.special and entry.content not in markers}

    def _detokenizer(self) -> Detokenizer:
        return ByteDetokenizer(self.token_bytes) if self._is_byte_level else WindowDetokenizer(self._decode)

    def token_bytes(self, token: int) -> bytes:
        """Return what a token stands for in UTF-8, perhaps a part of a character; nothing for one that is not known."""
        found = self._bytes.get(token)
        if found is None:
            found = self._bytes[token] = self._look_up(token)
        return found

    def _look_up(self, token: int) -> bytes:
        if token in self._added:
            return self._added[token].encode()
        with self._decoding:
            piece = self._wrapper.convert_ids_to_tokens(token)
        if piece is None:
            return b""
        return byte_level(piece) if self._is_byte_level else piece_bytes(piece)

    def _decode(self, tokens: Sequence[int]) -> str:
        with self._decoding:
            return str(self._wrapper.decode(tokens, clean_up_tokenization_spaces=False))


def no_template() -> UnsupportedModelError:
    """Return the error for a model without a chat template."""
    return UnsupportedModelError(
        "This model has no chat template, so it cannot hold a conversation; use an instruct or chat model.",
        provider="mlx",
    )


_CALL_IDS = "[a-zA-Z0-9]{9}"
"""The form of calls' ids that templates of Mistral's models demand."""


def _shapes(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Yield the conversation as it is, then in plainer and plainer shapes."""
    yield messages
    yield merged_turns(messages)
    plain = without_system(messages)
    yield plain
    yield merged_turns(plain)
    renamed = with_call_ids(messages, _CALL_IDS)
    if renamed is not messages:
        yield from _shapes(renamed)


def _is_byte_level(wrapper: Any) -> bool:
    backend = getattr(wrapper, "backend_tokenizer", None)
    if backend is None or backend.decoder is None:
        return False
    return bool(json.loads(backend.decoder.__getstate__()).get("type") == "ByteLevel")
