"""The chat models of single providers: `ChatAbstractLLM` with the provider chosen."""

from __future__ import annotations

from typing import Any, Literal

from langchain_core.utils import secret_from_env
from pydantic import Field, SecretStr

from abstractllm import embedded
from abstractllm.integrations.langchain.chat import ChatAbstractLLM
from abstractllm.integrations.langchain.counting import Counter
from abstractllm.integrations.langchain.offering import ChoosingModel

_KEY = "MARITACA_API_KEY"
"""The service's own variable; with our prefix it is this package's, which comes first, as in the provider."""


class ChatMLX(ChatAbstractLLM):
    """A model that runs in this process, on MLX; without `model`, the one that ships in this package.

    `settings` takes those of the provider, such as `dtype`, `max_queue`, `draft_model`, `kv_bits`. Requests of all
    chat models with one `model` run in one batch. `api_key`, `base_url` and `max_retries` are taken since code that
    makes a model of any provider gives them; there is nothing to log in to, and nothing to try again.
    """

    llm: Literal["mlx"] = "mlx"

    def _connection(self) -> dict[str, Any]:
        return {}

    def _default_model(self) -> str:
        return embedded.PATH.name


class ChatMaritaca(ChoosingModel):
    """Maritaca's Sabiá models. The key is `api_key`, or the environment variable MARITACA_API_KEY.

    `options` takes those of the service, such as `{"service_tier": "flex"}`. The service counts no tokens without
    answering, so `token_counter` is "estimate"; pass a function where the exact number matters.
    """

    llm: Literal["maritaca"] = "maritaca"
    api_key: SecretStr | None = Field(
        default_factory=secret_from_env([f"ABSTRACTLLM_{_KEY}", _KEY], default=None),
        exclude=True,
    )
    token_counter: Literal["provider", "estimate"] | Counter = "estimate"
