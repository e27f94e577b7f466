"""LangChain's chat model on any provider of this package. Knows no provider by name, and no wire format.

LangChain's own base class makes `invoke`, `stream`, `batch`, `astream_events` and the like of the four methods here,
and takes care of callbacks, caches and rate limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from abstractllm.capabilities import ModelCapability
from abstractllm.errors import InvalidParameterError
from abstractllm.integrations.langchain.backends import Backend
from abstractllm.integrations.langchain.batches import BatchingModel
from abstractllm.integrations.langchain.calling import arguments, to_tool_choice
from abstractllm.integrations.langchain.configured import name_of
from abstractllm.integrations.langchain.failing import told_to_langchain
from abstractllm.integrations.langchain.misfits import WANTED, Misfit, answer_of
from abstractllm.integrations.langchain.spending import PricedModel, tell_cost
from abstractllm.integrations.langchain.structured import (
    Method,
    checked_method,
    form_of,
    parser_of_calls,
    parser_of_text,
    tool_name,
    tracing,
    with_raw,
)
from abstractllm.integrations.langchain.writing import ChunkWriter, to_result
from abstractllm.interface import AbstractLLMInterface
from abstractllm.streams import AsyncResponseStream, ResponseStream
from abstractllm.tools import to_tool_definitions
from abstractllm.types import GenerateResponse


class ChatAbstractLLM(PricedModel, BatchingModel):
    """A chat model on any provider.

    `llm` is a config string ("mlx", "openai:gpt-5?temperature=0.2"), a profile, a list of these to fall back on, or a
    provider that is already made, which stays the caller's to close. It may be given as the first argument.

    `model`, `api_key`, `base_url`, `max_retries` and `settings` are what the provider is made with; the other fields
    are parameters of each call, as in `AbstractLLMInterface.generate`, and can be given there too, and so can `model`,
    `tools`, `tool_choice` and `response_format`. Making a chat model loads nothing. Chat models with the same
    configuration share one provider, which is closed with the last of them (`close`, `aclose`, or when they are gone).

    Errors are those of `abstractllm.errors`; each is also of the class of `langchain_core.exceptions` for its kind.
    """

    # What LangChain calls.

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with told_to_langchain():
            llm = self._backend(kwargs.get("model")).provider()
            call = self._fitted(llm, self._call(llm, messages, stop, kwargs))
            try:
                return _result(llm.generate(**call), llm)
            except Misfit as error:
                return _result(answer_of(error, kwargs), llm)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with told_to_langchain():
            llm = await _made(self._backend(kwargs.get("model")))
            call = await self._afitted(llm, self._call(llm, messages, stop, kwargs))
            try:
                return _result(await llm.generate_async(**call), llm)
            except Misfit as error:
                return _result(answer_of(error, kwargs), llm)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with told_to_langchain():
            llm = self._backend(kwargs.get("model")).provider()
            call = self._fitted(llm, self._call(llm, messages, stop, kwargs, stream=True))
            stream = llm.generate(**call, stream=True)
            writer = ChunkWriter(name_of(llm), llm.get_param("model"))
            try:
                with closing(stream):
                    for delta in stream:
                        yield _chunk(writer.write(delta), llm, delta, stream)
            except Misfit as error:
                yield _last(writer, llm, answer_of(error, kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with told_to_langchain():
            llm = await _made(self._backend(kwargs.get("model")))
            call = await self._afitted(llm, self._call(llm, messages, stop, kwargs, stream=True))
            stream = await llm.generate_async(**call, stream=True)
            writer = ChunkWriter(name_of(llm), llm.get_param("model"))
            try:
                async with aclosing(stream):
                    async for delta in stream:
                        yield _chunk(writer.write(delta), llm, delta, stream)
            except Misfit as error:
                yield _last(writer, llm, answer_of(error, kwargs))

    def _call(
        self,
        llm: AbstractLLMInterface,
        messages: list[BaseMessage],
        stop: list[str] | None,
        given: Mapping[str, Any],
        *,
        stream: bool = False,
    ) -> dict[str, Any]:
        call = arguments(llm, self._asked(), messages, stop, given)
        if stream and (call.get("n") or 1) > 1:
            raise InvalidParameterError("n", "A stream of LangChain's has one answer; use n=1, or do not stream.")
        return call

    # Tools and forms.

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | dict[str, Any] | bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return this model with tools, which it may call; this one stays as it is.

        `tools` are what `convert_to_openai_tool` takes. `tool_choice` is as in `to_tool_choice`. With `strict`, calls
        are held to the tools' schemas by services that do so only when asked. `kwargs` go with each call, such as
        `response_format`. Raises InvalidParameterError for a tool that no model can call, and for a choice that is none
        of these tools.
        """
        formatted = [convert_to_openai_tool(one, strict=strict) for one in tools]
        for tool in formatted:
            to_tool_definitions([tool])
        choice = to_tool_choice(tool_choice, [one["function"]["name"] for one in formatted])
        more = {"tool_choice": choice, "strict": strict}
        return self.bind(tools=formatted, **{key: value for key, value in more.items() if value is not None}, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type | None = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a runnable that answers with values of `schema`: instances of a pydantic model, else dicts.

        "json_schema" asks for an answer of that form, which local models are held to by grammar; "function_calling"
        for a call of a tool that has it; "json_mode" for JSON, of that form too where the provider can hold to one,
        and otherwise the prompt has to say which. With `include_raw`, the answer is a dict of `raw`, `parsed` and
        `parsing_error`. `kwargs` go with each call.

        Answers raise IncompleteOutputError when they are cut off, and OutputValidationError when they do not fit; calls
        with arguments of another form raise pydantic's ValidationError. Without a call there is None.
        """
        method = checked_method(method)
        if schema is None and method != "json_mode":
            raise InvalidParameterError("schema", f"method={method!r} needs a schema.")
        if strict is not None and method == "json_mode":
            raise InvalidParameterError("strict", "method='json_mode' knows no strict; use method='json_schema'.")
        told, form = tracing(schema, method, strict), None
        if method == "function_calling" and schema is not None:
            bound = self.bind_tools(
                [schema], tool_choice=tool_name(schema), strict=strict, ls_structured_output_format=told, **kwargs
            )
            parser = parser_of_calls(schema)
        else:
            form = self._form(schema, method, strict)
            raw = {WANTED: True} if include_raw else {}
            bound = self.bind(response_format=form, ls_structured_output_format=told, **raw, **kwargs)
            parser = parser_of_text(schema, form)
        return with_raw(bound, parser, form) if include_raw else bound | parser

    def _form(self, schema: dict[str, Any] | type | None, method: Method, strict: bool | None) -> dict[str, Any]:
        if schema is None or (method == "json_mode" and not self._holds_to_forms()):
            return {"type": "json_object"}
        return form_of(schema, strict=strict)

    def _holds_to_forms(self) -> bool:
        with told_to_langchain():
            return self._backend(None).provider().get_capabilities().get(ModelCapability.STRUCTURED_OUTPUT) is True


def _result(response: GenerateResponse, llm: AbstractLLMInterface) -> ChatResult:
    result = to_result(response, name_of(llm), llm.get_param("model"))
    tell_cost(result.generations[0].message, llm, response)
    return result


def _chunk(
    chunk: ChatGenerationChunk, llm: AbstractLLMInterface, delta: GenerateResponse, stream: object
) -> ChatGenerationChunk:
    """Return the chunk of a delta; the last one tells what the answer cost. A plugin's stream may hold no answer."""
    if delta.finish_reason is not None:
        whole = stream.response if isinstance(stream, (ResponseStream, AsyncResponseStream)) else delta
        tell_cost(chunk.message, llm, whole)  # a plugin's stream may be a plain generator
    return chunk


def _last(writer: ChunkWriter, llm: AbstractLLMInterface, answer: GenerateResponse) -> ChatGenerationChunk:
    """Return the chunk that ends a stream whose last delta did not come, since the answer does not fit."""
    chunk = writer.rest(answer)
    tell_cost(chunk.message, llm, answer)
    return chunk


async def _made(backend: Backend) -> AbstractLLMInterface:
    """Return a provider; where it is still to be made, that happens in a thread, as it imports what it needs."""
    made = backend.made
    return made if made is not None else await asyncio.to_thread(backend.provider)
