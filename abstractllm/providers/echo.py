"""A provider without a model: it says the prompt back, or plays a script of answers, delays and faults.

For tests and demonstrations; needs nothing installed and touches nothing.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.errors import InvalidParameterError
from abstractllm.interface import MessageLike, ToolLike
from abstractllm.messages import to_messages
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.call import Call
from abstractllm.threads import ForkSafeLock
from abstractllm.types import FinishReason, GenerateRequest, GenerateResponse, Message, ToolCall, Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """One scripted answer; not `abstractllm.Reply`, which is what an agent's `chat` returns.

    `content` is sent in pieces of `chunk` characters (whole words when None), with `delay` seconds before each.
    `error` is raised after `error_after` pieces.
    """

    content: str = ""
    tool_calls: Sequence[ToolCall] = ()
    reasoning: str = ""
    chunk: int | None = None
    delay: float = 0.0
    error: Exception | None = None
    error_after: int = 0
    finish_reason: FinishReason | None = None


Script = Callable[[GenerateRequest], Reply | str]


@dataclass
class _Queue:
    """Scripted replies, each played once, in order, whichever thread asks."""

    replies: Iterator[Reply | str]
    lock: ForkSafeLock = field(default_factory=ForkSafeLock)

    def next(self) -> Reply | str:
        with self.lock:
            try:
                return next(self.replies)
            except StopIteration as error:
                raise InvalidParameterError("replies", "The script has no reply left for this request.") from error


class EchoProvider(BaseProvider):
    """Says the prompt back, word by word.

    Setting `replies` is a script instead: a list of `Reply` or str, played in order, or a function of the request.
    A "token" is a word with the white space after it.
    """

    name: ClassVar[str] = "echo"
    parameters: ClassVar[frozenset[str]] = frozenset({"max_tokens", "stop", "temperature", "seed", "tool_choice"})
    settings: ClassVar[frozenset[str]] = frozenset({"model", "replies"})
    defaults: ClassVar[Mapping[str, Any]] = {"model": "echo"}
    _replies: object = None

    def _configure(self, config: Mapping[str, Any]) -> None:
        replies = config.get("replies")
        if replies is None or replies is not self._replies:  # a script goes on when something else changes
            self._script, self._replies = _script(replies), replies

    def get_capabilities(self) -> Capabilities:
        """Everything but eyes."""
        return {
            ModelCapability.STREAMING: True,
            ModelCapability.ASYNC: True,
            ModelCapability.SYSTEM_PROMPT: True,
            ModelCapability.MULTI_TURN: True,
            ModelCapability.TOOL_USE: True,
            ModelCapability.FUNCTION_CALLING: True,
            ModelCapability.PARALLEL_INFERENCE: True,
            ModelCapability.VISION: False,
            ModelCapability.DOCUMENTS: False,
        }

    def count_tokens(self, messages: str | Sequence[MessageLike], tools: Sequence[ToolLike] | None = None) -> int:
        """Return the number of words; tools count nothing."""
        turns = (Message("user", messages),) if isinstance(messages, str) else to_messages(messages)
        return sum(len(_words(turn.text)) for turn in turns)

    def _stream(self, request: GenerateRequest, call: Call) -> Iterator[GenerateResponse]:
        reply = self._script(request)
        if isinstance(reply, str):
            reply = Reply(reply)
        if reply.reasoning:
            yield GenerateResponse(reasoning=reply.reasoning)
        text, stop_string = _cut(reply.content, request.stop)
        pieces, finish = _limit(_words(text), request.max_tokens)
        yield from _play(reply, _chunks("".join(pieces), reply.chunk), call)
        if call.cancelled:
            return
        if reply.tool_calls:
            yield GenerateResponse(tool_calls=tuple(reply.tool_calls))
        yield GenerateResponse(
            finish_reason=reply.finish_reason or ("tool_calls" if reply.tool_calls else finish),
            usage=Usage(self.count_tokens(request.messages), len(pieces)),
            stop_string=stop_string if finish == "stop" else None,
            model=self.get_param("model"),
        )


def _script(replies: object) -> Script:
    if replies is None:
        return lambda request: request.messages[-1].text
    if callable(replies):
        return replies
    if isinstance(replies, Iterable) and not isinstance(replies, str):
        queue = _Queue(iter(list(replies)))
        return lambda request: queue.next()
    raise InvalidParameterError("replies", "replies must be a list of Reply or str, or a function of the request.")


def _play(reply: Reply, chunks: Sequence[str], call: Call) -> Iterator[GenerateResponse]:
    """Yield the pieces at the script's pace; a wait ends early when the answer is no longer wanted."""
    cancelled = threading.Event()
    call.on_cancel(cancelled.set)
    for number, chunk in enumerate(chunks):
        if cancelled.wait(reply.delay):
            return
        if reply.error is not None and number == reply.error_after:
            raise reply.error.with_traceback(None)
        yield GenerateResponse(content=chunk)
    if reply.error is not None and reply.error_after >= len(chunks):
        raise reply.error.with_traceback(None)


def _words(text: str) -> list[str]:
    """Split after white space; the pieces join to the text."""
    return re.findall(r"\s*\S+\s*", text) or ([text] if text else [])


def _chunks(text: str, size: int | None) -> list[str]:
    if size is None:
        return _words(text)
    return [text[start : start + size] for start in range(0, len(text), size)]


def _cut(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """Return the text before the first stop string, and that string."""
    found = [(text.index(stop), stop) for stop in stops if stop in text]
    if not found:
        return text, None
    start, stop = min(found)
    return text[:start], stop


def _limit(words: list[str], max_tokens: int | None) -> tuple[list[str], FinishReason]:
    if max_tokens is not None and len(words) > max_tokens:
        return words[:max_tokens], "length"
    return words, "stop"
