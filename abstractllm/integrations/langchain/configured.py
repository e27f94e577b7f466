"""What a chat model is configured with, the provider that this stands for, and how it tells LangChain who it is.

Knows no provider by name, and asks nothing but what a provider can do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

from langchain_core.language_models import ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr

from abstractllm.errors import AbstractLLMError, InvalidParameterError, UnsupportedFeatureError, did_you_mean
from abstractllm.integrations.langchain.backends import Backend, Holder, Spec
from abstractllm.integrations.langchain.failing import told_to_langchain
from abstractllm.integrations.langchain.profiles import profile_of
from abstractllm.integrations.langchain.reading import to_messages
from abstractllm.interface import AbstractLLMInterface
from abstractllm.types import Timeout

_ASKED = (
    *("temperature", "max_tokens", "top_p", "top_k", "min_p", "seed", "stop", "n", "logprobs", "top_logprobs"),
    *("logit_bias", "presence_penalty", "frequency_penalty", "repetition_penalty", "reasoning", "retries", "timeout"),
    "options",
)
"""Fields that go with each call."""


class ConfiguredModel(BaseChatModel):
    """A chat model as far as it is configured; it cannot answer yet."""

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
        self._check_fit()

    @classmethod
    def _check_names(cls, given: Mapping[str, Any]) -> None:
        for name in given:
            if name not in cls.model_fields:
                hint = did_you_mean(name, cls.model_fields)
                raise InvalidParameterError(name, f"{cls.__name__} has no parameter {name!r}.{hint}")

    def _check_fit(self) -> None:
        """Refuse what cannot be put together, before any call."""
        if self.llm is None:
            raise InvalidParameterError("llm", "No model is named; pass a config string or a provider as llm.")
        if "api_key" in self.settings:
            raise InvalidParameterError("settings", "A key does not belong into settings; pass it as api_key.")
        if isinstance(self.llm, AbstractLLMInterface) and self._config(None):
            first = next(iter(self._config(None)))
            raise InvalidParameterError(first, f"{first} cannot be given to a provider that is already made.")

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

    # What LangChain wants to know.

    @property
    def _llm_type(self) -> str:
        return f"abstractllm-{self._provider_name}"

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

    @cached_property
    def _provider_name(self) -> str:
        if isinstance(self.llm, str):
            return self.llm.partition("?")[0].partition(":")[0]
        return name_of(self.llm) if isinstance(self.llm, AbstractLLMInterface) else "fallback"

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        """Return what callbacks are told of a call; LangChain's own goes through its deprecated `dict`, at a price."""
        return {**self.asdict(), "stop": stop, **kwargs}

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = LangSmithParams(ls_provider=self._provider_name, ls_model_type="chat")
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

    def _default_model(self) -> str:
        """Return the model that the provider has where none is named, as far as it is made and tells."""
        if isinstance(self.llm, AbstractLLMInterface):
            return str(self.llm.get_param("model") or "default")
        made = None if self._holder.closed else self._backend(None).made
        return str((None if made is None else made.get_param("model")) or "default")

    def _resolve_model_profile(self) -> ModelProfile | None:
        try:
            return profile_of(self._backend(None).provider())
        except AbstractLLMError:  # said at the first call, to whom it concerns
            return None

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Return where LangChain finds this class again."""
        return ["abstractllm", "integrations", "langchain"]

    def get_token_ids(self, text: str) -> list[int]:
        """Return the ids that `custom_get_token_ids` gives; LangChain's own would download the vocabulary of GPT-2.

        Raises UnsupportedFeatureError where that is not set: providers here count tokens, and do not name them.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        what = "Tokens are counted and not named: use get_num_tokens, or make the model with custom_get_token_ids."
        with told_to_langchain():
            raise UnsupportedFeatureError("get_token_ids", what, provider=self._provider_name)

    def get_num_tokens(self, text: str) -> int:
        """Return the tokens that a text takes as the only turn, or `custom_get_token_ids` gives for it.

        Raises UnsupportedFeatureError where there is neither.
        """
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        with told_to_langchain():
            return self._backend(None).provider().count_tokens(text)

    def get_num_tokens_from_messages(
        self,
        messages: Sequence[BaseMessage],
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool] | None = None,
    ) -> int:
        """Return the tokens of a conversation as a prompt, tools included. Raises UnsupportedFeatureError.

        No messages have none: `trim_messages` asks that.
        """
        if not messages and not tools:
            return 0
        formatted = [convert_to_openai_tool(tool) for tool in tools or ()]
        with told_to_langchain():
            return self._backend(None).provider().count_tokens(to_messages(messages), formatted or None)


def name_of(llm: AbstractLLMInterface) -> str:
    """Return the name of a provider."""
    return str(getattr(llm, "name", type(llm).__name__))
