"""The other way round: a chat model of LangChain's as a provider of ours. Knows no integration by name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any, ClassVar

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from pydantic import SecretStr

from abstractllm.aio import iterate_in_thread
from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.errors import (
    ConfigurationError,
    InvalidParameterError,
    MissingDependencyError,
    UnsupportedFeatureError,
    install_command,
    shown,
)
from abstractllm.integrations.langchain.asked import Asked, asked
from abstractllm.integrations.langchain.counting import count_of
from abstractllm.integrations.langchain.faults import told_to_us
from abstractllm.integrations.langchain.incoming import AnswerReader
from abstractllm.integrations.langchain.outgoing import from_messages, from_tool
from abstractllm.integrations.langchain.spending import told_cost
from abstractllm.integrations.langchain.traits import PARAMETERS, Traits, capabilities_of, model_name, traits_of
from abstractllm.interface import MessageLike, ToolLike
from abstractllm.messages import to_messages
from abstractllm.prices import Cost
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.call import Call
from abstractllm.tools import to_tool_definitions
from abstractllm.types import GenerateRequest, GenerateResponse, Message

_FOR_MAKING = ("api_key", "base_url", "max_retries")
_NONE = "No chat model is named; pass model= as one of LangChain's objects, or as a name such as 'openai:gpt-5'."


class LangChainProvider(BaseProvider):
    """Asks a chat model of LangChain's.

    `model` is the object, or a name for LangChain's `init_chat_model`, which needs the package `langchain` and the
    integration's; `api_key`, `base_url` and `max_retries` go there. The object stays the caller's: closing this
    provider ends its requests alone. Callbacks, caches and rate limits of the model work as they do in LangChain.

    `parameters` are those that the model has fields for; they are set in a copy of it for each request. Stop strings
    are looked for here as well, and forms of answers are checked here. What the model can do is what its profile says.

    Options: `config`, a RunnableConfig for the call, and `kwargs`, arguments for it that only this model knows.
    """

    name: ClassVar[str] = "langchain"
    parameters: ClassVar[frozenset[str]] = PARAMETERS
    settings: ClassVar[frozenset[str]] = frozenset({"model", "chat_model", *_FOR_MAKING})
    options: ClassVar[frozenset[str]] = frozenset({"config", "kwargs"})

    def get_capabilities(self) -> Capabilities:
        """Return what the model's profile says, and for our own, what its provider says; None is unknown."""
        if self._chat is None:
            return {ModelCapability.STREAMING: True} | dict.fromkeys(_UNKNOWN)
        with told_to_us():
            return capabilities_of(self._chat, self._traits)

    def missing(self) -> str | None:
        """Return what to do where no chat model is named."""
        return _NONE if self._chat is None else None

    def count_tokens(self, messages: str | Sequence[MessageLike], tools: Sequence[ToolLike] | None = None) -> int:
        """Return the model's own count, which may be an estimate. Raises UnsupportedFeatureError where it has none."""
        self._check_open()
        turns = (Message("user", messages),) if isinstance(messages, str) else to_messages(messages)
        definitions = [from_tool(tool) for tool in to_tool_definitions(tools or ())]
        with told_to_us():
            return count_of(self._model(), from_messages(turns), definitions)

    def known_cost(self, answer: GenerateResponse) -> Cost | None:
        """Return what our own chat models say that an answer cost; None for any other."""
        return told_cost(answer.raw_response.response_metadata) if isinstance(answer.raw_response, AIMessage) else None

    # Configuration.

    def _configured(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Let `model` be an object: the configuration has it as `chat_model`, and its name as `model`."""
        model, chat = given.get("model"), given.get("chat_model")
        if isinstance(model, BaseChatModel):
            given = {**given, "model": model_name(model), "chat_model": model}
        elif chat is not None and not isinstance(chat, BaseChatModel):
            raise _no_chat_model(chat)
        elif chat is not None and model not in (None, model_name(chat)):
            given = {**given, "chat_model": None}
        elif model is not None and not isinstance(model, str):
            raise _no_chat_model(model)
        key = given.get("api_key")
        return super()._configured({**given, "api_key": SecretStr(key)} if isinstance(key, str) else given)

    def _configure(self, config: Mapping[str, Any]) -> None:
        making = {name: config[name] for name in _FOR_MAKING if name in config}
        chat = config.get("chat_model")
        if chat is not None and making:
            first = next(iter(making))
            raise InvalidParameterError(first, f"{first} cannot be given to a chat model that is already made.")
        name = config.get("model")
        if chat is None and name is not None:
            chat = self._chat if (name, making) == self._made else _made(name, making)
        self._take(chat, config)
        self._made = (name, making)

    _chat: BaseChatModel | None = None
    _made: tuple[str | None, Mapping[str, Any]] | None = None

    def _take(self, chat: BaseChatModel | None, config: Mapping[str, Any]) -> None:
        """Ask this chat model from now on; what it takes becomes what this instance takes."""
        with told_to_us():
            traits = None if chat is None else traits_of(chat)
        refused = [] if traits is None else [name for name in config if name in PARAMETERS - traits.parameters]
        if refused:
            what = f"This chat model does not support the parameter {refused[0]!r}; leave it out."
            raise UnsupportedFeatureError(refused[0], what, provider=self.name)
        self._chat = chat
        if traits is not None:
            self._traits: Traits = traits
            vars(self)["parameters"] = traits.parameters  # an instance's own: one class is for all chat models

    def _model(self) -> BaseChatModel:
        if self._chat is None:
            raise InvalidParameterError("model", _NONE, provider=self.name)
        return self._chat

    # One request.

    def _check(self, request: GenerateRequest) -> None:
        self._model()
        form = request.response_format
        if form is not None and form.kind != "json":
            what = f"No chat model of LangChain's is held to a {form.kind}; give a JSON Schema or a type."
            raise UnsupportedFeatureError("response_format", what, provider=self.name)
        if form is not None and request.tools and not self._traits.formed:
            what = "This chat model is not known to take tools beside a form of its answer; leave one of them out."
            raise UnsupportedFeatureError("response_format", what, provider=self.name)

    def _stream(self, request: GenerateRequest, call: Call) -> Iterator[GenerateResponse]:
        with self._telling():
            what = asked(self._model(), self._traits, request)
            reader = AnswerReader(request.stop, as_form=what.as_form)
            with closing(_messages(what, request.stream)) as messages:
                for message in messages:
                    yield from reader.read(message)
                    if call.cancelled:
                        return
                    if reader.cut:
                        break
            yield reader.end()

    async def _astream(self, request: GenerateRequest, call: Call) -> AsyncGenerator[GenerateResponse, None]:
        """Ask on the event loop, if the model can; else in one thread, from start to end, as for any blocking model."""
        if not (self._traits.streams if request.stream else self._traits.answers):
            threads = self._executor()
            pulled = iterate_in_thread(lambda: self._stream(request, call), threads, on_leave=call.cancel)
            async with aclosing(pulled) as deltas:
                async for delta in deltas:
                    yield delta
            return
        with self._telling():
            what = asked(self._model(), self._traits, request)
            reader = AnswerReader(request.stop, as_form=what.as_form)
            async with aclosing(_async_messages(what, request.stream)) as messages:
                async for message in messages:
                    for delta in reader.read(message):
                        yield delta
                    if reader.cut:
                        break
            yield reader.end()

    def _telling(self) -> Any:
        window = self.get_capabilities().get(ModelCapability.CONTEXT_WINDOW)
        return told_to_us(context_window=window if isinstance(window, int) else None)


_UNKNOWN = (
    ModelCapability.TOOL_USE,
    ModelCapability.STRUCTURED_OUTPUT,
    ModelCapability.VISION,
    ModelCapability.DOCUMENTS,
    ModelCapability.REASONING,
)


def _messages(what: Asked, stream: bool) -> Generator[Any, None, None]:
    """Yield the messages of an answer; closing this closes the model's own generator."""
    if not stream:
        yield what.chat.invoke(what.messages, what.config, **what.arguments)
        return
    chunks = what.chat.stream(what.messages, what.config, **what.arguments)
    try:
        yield from chunks
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


async def _async_messages(what: Asked, stream: bool) -> AsyncGenerator[Any, None]:
    """Yield the messages of an answer; closing this closes the model's own generator."""
    if not stream:
        yield await what.chat.ainvoke(what.messages, what.config, **what.arguments)
        return
    chunks = what.chat.astream(what.messages, what.config, **what.arguments)
    try:
        async for chunk in chunks:
            yield chunk
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


def _no_chat_model(given: object) -> InvalidParameterError:
    what = f"model={shown(given)} is no chat model: pass a BaseChatModel of LangChain's, without tools bound to it."
    return InvalidParameterError("model", what, provider=LangChainProvider.name)


def _made(name: str, making: Mapping[str, Any]) -> BaseChatModel:
    """Return the chat model of a name. Raises MissingDependencyError, InvalidParameterError, ConfigurationError."""
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        command = install_command("langchain")
        what = f"A chat model by name needs the package 'langchain', which is not installed: {command}"
        raise MissingDependencyError(what, provider=LangChainProvider.name) from error
    try:
        made = init_chat_model(name, **making)
    except ImportError as error:
        raise MissingDependencyError(str(error), provider=LangChainProvider.name) from error
    except ValueError as error:
        what = f"model={shown(name)} does not become a chat model: {str(error).splitlines()[0]}"
        raise InvalidParameterError("model", what, provider=LangChainProvider.name) from error
    except Exception as error:
        what = f"The chat model {name!r} cannot be made: {type(error).__name__}: {error}"
        raise ConfigurationError(what, provider=LangChainProvider.name) from error
    if not isinstance(made, BaseChatModel):
        raise _no_chat_model(made)
    return made
