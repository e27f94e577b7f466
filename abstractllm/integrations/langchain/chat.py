"""LangChain's chat model on any provider of this package. Knows no provider by name, and no wire format.

LangChain's own base class makes `invoke`, `stream`, `batch`, `astream_events` and the like of the four methods here, and
takes care of callbacks, caches and rate limits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from abstractllm.capabilities import ModelCapability
from abstractllm.errors import AbstractLLMError, InvalidParameterError, did_you_mean
from abstractllm.integrations.langchain.backends import Backend, Holder, Spec
from abstractllm.integrations.langchain.calling import arguments, to_tool_choice
from abstractllm.integrations.langchain.failing import told_to_langchain
from abstractllm.integrations.langchain.profiles import profile_of
from abstractllm.integrations.langchain.reading import to_messages
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
from abstractllm.types import Timeout

_ASKED = (
    *("temperature", "max_tokens", "top_p", "top_k", "min_p", "seed", "stop", "n", "logprobs", "top_logprobs"),
    *("logit_bias", "presence_penalty", "frequency_penalty", "repetition_penalty", "reasoning", "retries", "timeout"),
    "options",
)
"""Fields that go with each call."""


class ChatAbstractLLM(BaseChatModel):
    """A chat model on any provider.

    `llm` is a config string ("mlx", "openai:gpt-5?temperature=0.2"), a profile, a list of these to fall back on, or a
    provider that is already made, which stays the caller's to close. It may be given as the first argument.

    `model`, `api_key`, `base_url`, `max_retries` and `settings` are what the provider is made with; the other fields are
    parameters of each call, as in `AbstractLLMInterface.generate`, and can be given there too, and so can `model`,
    `tools`, `tool_choice` and `response_format`. Making a chat model loads nothing. Chat models with the same
    configuration share one provider, which is closed with the last of them (`close`, `aclose`, or when they are gone).

    Errors are those of `abstractllm.errors`; each is also of the class of `langchain_core.exceptions` for its kind.
    """

    llm: Any = None
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: list[str] | str | None = None
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    reasoning: str | None = None
    retries: int | None = None
    timeout: float | Timeout | None = None
    max_retries: int | None = None
    api_key: SecretStr | None = Field(default=None, exclude=True)
    base_url: str | None = None
    streaming: bool = False
    options: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    _holder: Holder = PrivateAttr(default_factory=Holder)

    def __init__(self, *llm: Spec, **fields: Any) -> None:
        if len(llm) > 1:
            raise InvalidParameterError("llm", "Only llm may be given without its name; name the other arguments.")
        if llm:
            fields["llm"] = llm[0]
        self._check_names(fields)
        super().__init__(**fields)

    @classmethod
    def _check_names(cls, given: Mapping[str, Any]) -> None:
        for name in given:
            if name not in cls.model_fields:
                hint = did_you_mean(name, cls.model_fields)
                raise InvalidParameterError(name, f"{cls.__name__} has no parameter {name!r}.{hint}")

    def model_post_init(self, context: Any, /) -> None:
        """Refuse what cannot be put together, before any call."""
        super().model_post_init(context)
        if self.llm is None:
            raise InvalidParameterError("llm", "No model is named; pass a config string or a provider as llm.")
        if "api_key" in self.settings:
            raise InvalidParameterError("settings", "A key does not belong into settings; pass it as api_key.")
        if isinstance(self.llm, AbstractLLMInterface) and self._config(None):
            first = next(iter(self._config(None)))
            raise InvalidParameterError(first, f"{first} cannot be given to a provider that is already made.")

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
            response = llm.generate(**self._call(llm, messages, stop, kwargs))
            return to_result(response, name_of(llm), llm.get_param("model"))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        with told_to_langchain():
            llm = await _made(self._backend(kwargs.get("model")))
            response = await llm.generate_async(**self._call(llm, messages, stop, kwargs))
            return to_result(response, name_of(llm), llm.get_param("model"))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with told_to_langchain():
            llm = self._backend(kwargs.get("model")).provider()
            stream = llm.generate(**self._call(llm, messages, stop, kwargs, stream=True), stream=True)
            writer = ChunkWriter(name_of(llm), llm.get_param("model"))
            with closing(stream):
                for delta in stream:
                    yield writer.write(delta)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        with told_to_langchain():
            llm = await _made(self._backend(kwargs.get("model")))
            stream = await llm.generate_async(**self._call(llm, messages, stop, kwargs, stream=True), stream=True)
            writer = ChunkWriter(name_of(llm), llm.get_param("model"))
            async with aclosing(stream):
                async for delta in stream:
                    yield writer.write(delta)

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

    def _asked(self) -> dict[str, Any]:
        """Return the parameters that go with every call."""
        values = self.__dict__
        return {name: values[name] for name in _ASKED if values[name] is not None and values[name] != {}}

    # The provider.

    def _connection(self) -> dict[str, Any]:
        return {"api_key": self.api_key, "base_url": self.base_url, "max_retries": self.max_retries}

    def _config(self, model: str | None) -> dict[str, Any]:
        """Return what the provider is made with."""
        given = {"model": model or self.model, **self._connection(), **self.settings}
        return {name: value for name, value in given.items() if value is not None}

    def _backend(self, model: str | None) -> Backend:
        if not isinstance(self.llm, AbstractLLMInterface):
            return self._holder.get(self.llm, self._config(model))
        if model not in (None, self.llm.get_param("model")):
            raise InvalidParameterError(
                "model", f"model={model!r} cannot be asked of a provider that is already made; pass llm as a string."
            )
        return self._holder.get(self.llm, {})

    def close(self) -> None:
        """Close what this model and its copies use, unless it is the caller's or other models have it. For good."""
        for provider in self._holder.close():
            provider.close()

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        for provider in self._holder.close():
            await provider.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

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
        `response_format`. Raises InvalidParameterError for a choice that is none of these tools.
        """
        formatted = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        choice = to_tool_choice(tool_choice, [tool["function"]["name"] for tool in formatted])
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

        Answers raise IncompleteOutputError when they are cut off, and OutputParserException when they do not fit.
        """
        method = checked_method(method)
        if schema is None and method != "json_mode":
            raise InvalidParameterError("schema", f"method={method!r} needs a schema.")
        if strict is not None and method == "json_mode":
            raise InvalidParameterError("strict", "method='json_mode' knows no strict; use method='json_schema'.")
        told = tracing(schema, method, strict)
        if method == "function_calling" and schema is not None:
            bound = self.bind_tools(
                [schema], tool_choice=tool_name(schema), strict=strict, ls_structured_output_format=told, **kwargs
            )
            parser = parser_of_calls(schema)
        else:
            form = self._form(schema, method, strict)
            bound = self.bind(response_format=form, ls_structured_output_format=told, **kwargs)
            parser = parser_of_text(schema)
        return with_raw(bound, parser) if include_raw else bound | parser

    def _form(self, schema: dict[str, Any] | type | None, method: Method, strict: bool | None) -> dict[str, Any]:
        if schema is None or (method == "json_mode" and not self._holds_to_forms()):
            return {"type": "json_object"}
        return form_of(schema, strict=strict)

    def _holds_to_forms(self) -> bool:
        with told_to_langchain():
            return self._backend(None).provider().get_capabilities().get(ModelCapability.STRUCTURED_OUTPUT) is True

    # What LangChain wants to know.

    @property
    def _llm_type(self) -> str:
        return f"abstractllm-{self._provider_name()}"

    @property
    def model_name(self) -> str | None:
        """The model that is asked, None where the provider chooses."""
        return self.model

    @property
    def _identifying_params(self) -> dict[str, Any]:
        values = self.__dict__
        named = {name: values[name] for name in ("model", "base_url", "max_retries", "settings") if values[name]}
        return {"llm": self._shown_llm(), **named, **self._asked()}

    def _shown_llm(self) -> Any:
        if not isinstance(self.llm, AbstractLLMInterface):
            return self.llm
        return {"provider": name_of(self.llm), **{k: repr(v) for k, v in self.llm.get_config().items()}}

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        """Return the key for LangChain's caches; it has all that makes a difference, and no secret."""
        own = sorted(self._identifying_params.items())
        return str([type(self).__name__, own, sorted({**kwargs, "stop": stop}.items(), key=lambda item: item[0])])

    def _provider_name(self) -> str:
        if isinstance(self.llm, str):
            return self.llm.partition("?")[0].partition(":")[0]
        return name_of(self.llm) if isinstance(self.llm, AbstractLLMInterface) else "fallback"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = LangSmithParams(ls_provider=self._provider_name(), ls_model_type="chat")
        model = kwargs.get("model") or self.model or self._default_model()
        if isinstance(model, str):
            params["ls_model_name"] = model
        temperature = kwargs.get("temperature", self.temperature)
        if isinstance(temperature, (int, float)):
            params["ls_temperature"] = temperature
        max_tokens = kwargs.get("max_tokens", self.max_tokens)
        if isinstance(max_tokens, int):
            params["ls_max_tokens"] = max_tokens
        stops = stop or self.stop
        if stops:
            params["ls_stop"] = [stops] if isinstance(stops, str) else list(stops)
        return params

    def _default_model(self) -> str | None:
        """Return the model that the provider has where none is named, as far as it is made."""
        made = None if self._holder.closed else self._backend(None).made
        return None if made is None else made.get_param("model")

    def _resolve_model_profile(self) -> ModelProfile | None:
        try:
            return profile_of(self._backend(None).provider())
        except AbstractLLMError:  # said at the first call, to whom it concerns
            return None

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Whether LangChain can write this down, and make it again. Keys are not written."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return where LangChain finds this class again."""
        return ["abstractllm", "integrations", "langchain"]

    def get_num_tokens(self, text: str) -> int:
        """Return the tokens that a text takes as the only turn. Raises UnsupportedFeatureError."""
        with told_to_langchain():
            return self._backend(None).provider().count_tokens(text)

    def get_num_tokens_from_messages(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
    ) -> int:
        """Return the tokens of a conversation as a prompt, tools included. Raises UnsupportedFeatureError."""
        formatted = [convert_to_openai_tool(tool) for tool in tools or ()]
        with told_to_langchain():
            return self._backend(None).provider().count_tokens(to_messages(messages), formatted or None)


def name_of(llm: AbstractLLMInterface) -> str:
    """Return the name of a provider."""
    return str(getattr(llm, "name", type(llm).__name__))


async def _made(backend: Backend) -> AbstractLLMInterface:
    """Return a provider; where it is still to be made, that happens in a thread, as it imports what it needs."""
    return backend.made or await asyncio.to_thread(backend.provider)
