"""Chat models of LangChain's that play a script: what an integration is made of, without a service."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import PrivateAttr

Script = Callable[[list[BaseMessage], Mapping[str, Any]], AIMessage]


def words(text: str) -> list[str]:
    return re.findall(r"\s*\S+", text)


def answer(messages: list[BaseMessage], given: Mapping[str, Any]) -> AIMessage:
    """Call the tool that is asked for, give the form that is asked for, or else say the last message back."""
    tools, choice = given.get("tools") or [], given.get("tool_choice")
    said = str(messages[-1].content)
    if tools and choice != "none" and (choice is not None or "look up" in said):
        name = choice if choice not in (None, "any") else tools[0]["function"]["name"]
        schema = next(tool["function"]["parameters"] for tool in tools if tool["function"]["name"] == name)
        return AIMessage(
            content="", tool_calls=[{"name": name, "args": _filled(schema), "id": "c1", "type": "tool_call"}]
        )
    if "response_format" in given:
        return AIMessage(content=json.dumps(_filled(given["response_format"]["json_schema"]["schema"])))
    return AIMessage(content="So: " + said)


def _filled(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {name: kind.get("type") == "boolean" or "x" for name, kind in schema["properties"].items()}


class SyncModel(BaseChatModel):
    """A chat model that blocks, with whole answers alone. It counts a word as a token and keeps its parameters.

    `calls` are the arguments of each call, with the fields that were asked for.
    """

    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    script: Any = answer
    error: Any = None
    gate: Any = None
    _calls: list[dict[str, Any]] = PrivateAttr(default_factory=list)

    @property
    def calls(self) -> list[dict[str, Any]]:
        return self._calls

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools, *, tool_choice=None, **kwargs):
        formatted = [convert_to_openai_tool(tool) for tool in tools]
        chosen = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=formatted, **chosen, **kwargs)

    def _message(self, messages, stop, kwargs) -> AIMessage:
        self._calls.append({"temperature": self.temperature, "seed": self.seed, "stop": stop, **kwargs})
        if self.error is not None:
            raise self.error
        said = self.script(messages, kwargs)
        pieces, reason = words(said.content), "tool_calls" if said.tool_calls else "stop"
        if self.max_tokens is not None and len(pieces) > self.max_tokens:
            pieces, reason = pieces[: self.max_tokens], "length"
        prompt = sum(len(words(str(message.content))) for message in messages)
        made = len(pieces) or 1
        counts = {"input_tokens": prompt, "output_tokens": made, "total_tokens": prompt + made}
        told = {"finish_reason": reason, "model_name": "scripted-1"} | said.response_metadata
        return said.model_copy(update={"content": "".join(pieces), "usage_metadata": counts, "response_metadata": told})

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        if self.gate is not None:
            self.gate.wait()
        return ChatResult(generations=[ChatGeneration(message=self._message(messages, stop, kwargs))])


def chunks(whole: AIMessage) -> list[ChatGenerationChunk]:
    """Return an answer word by word, calls in two pieces, usage and what is told in the last one."""
    made = [AIMessageChunk(content=word) for word in words(whole.content)]
    for number, call in enumerate(whole.tool_calls):
        text = json.dumps(call["args"])
        pieces = ((call["name"], call["id"], text[:3]), (None, None, text[3:]))
        made += [
            AIMessageChunk(content="", tool_call_chunks=[tool_call_chunk(name=name, id=one, args=args, index=number)])
            for name, one, args in pieces
        ]
    end = AIMessageChunk(content="", response_metadata=whole.response_metadata, usage_metadata=whole.usage_metadata)
    return [ChatGenerationChunk(message=chunk) for chunk in [*made, end]]


class StreamingModel(SyncModel):
    """One that blocks, and streams."""

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        if self.gate is not None:
            self.gate.wait()
        yield from chunks(self._message(messages, stop, kwargs))


class AsyncModel(StreamingModel):
    """One that does everything on the event loop as well. `closed` says whether its last stream has ended."""

    _closed: threading.Event = PrivateAttr(default_factory=threading.Event)

    @property
    def closed(self) -> threading.Event:
        return self._closed

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return ChatResult(generations=[ChatGeneration(message=self._message(messages, stop, kwargs))])

    async def _astream(self, messages, stop=None, run_manager=None, **kwargs):
        self._closed.clear()
        try:
            for chunk in chunks(self._message(messages, stop, kwargs)):
                yield chunk
        finally:
            self._closed.set()
