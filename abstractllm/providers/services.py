"""The services that speak OpenAI's Chat Completions: one row each. Knows facts and asks nobody.

A row says what a service's documentation says, or what is safe where that is silent: a parameter that is not listed
there is refused instead of being sent into the unknown. The wire format itself is known to `wire.openai_chat` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.providers import embedding_services, intake
from abstractllm.providers.embedding import EmbeddingService
from abstractllm.providers.http.attachments import Attachments
from abstractllm.wire.openai_chat import EXTENDED, STANDARD, ChatQuirks

_LOGPROBS = frozenset({"logprobs", "top_logprobs"})
_EYES = frozenset({ModelCapability.VISION})
_FILES = frozenset({ModelCapability.DOCUMENTS})
_TOOLS = frozenset({ModelCapability.TOOL_USE, ModelCapability.FUNCTION_CALLING})
_USUAL = frozenset({"parallel_tool_calls", "user"})


@dataclass(frozen=True, slots=True)
class Service:
    """One service.

    - `source`: where the facts are from.
    - `base_url`: its address; None where each customer or machine has its own, which must be given.
    - `key_variable`: the environment variable for its key; None where it has no name of its own.
    - `needs_key`, `needs_model`: whether a request without one is refused. `model`: the one that is asked by default.
    - `quirks`: how its Chat Completions differ, the parameters that it takes included.
    - `options`: fields of its own, for `options={...}`.
    - `can`, `cannot`: capabilities that all of its models have, and that none has; others are unknown.
    - `embeddings`: what it has for embeddings; None where it has none.
    - `attachments`: the images and documents that it takes.
    - `finds_stops`: whether it ends an answer at a stop string, whatever tokens that is in; else it is done here.
    """

    name: str
    source: str
    base_url: str | None
    key_variable: str | None = None
    quirks: ChatQuirks = field(default_factory=ChatQuirks)
    needs_key: bool = True
    needs_model: bool = True
    model: str | None = None
    options: frozenset[str] = _USUAL
    can: frozenset[ModelCapability] = frozenset()
    cannot: frozenset[ModelCapability] = _FILES
    embeddings: EmbeddingService | None = None
    attachments: Attachments = field(default_factory=Attachments)
    finds_stops: bool = True

    @property
    def defaults(self) -> Mapping[str, Any]:
        """The configuration where nothing else is said."""
        given = {"base_url": self.base_url, "model": self.model}
        return {name: value for name, value in given.items() if value is not None}

    @property
    def capabilities(self) -> Capabilities:
        """What the service can do: the format streams and has system prompts and turns; models have the rest."""
        unknown = (*_TOOLS, *_EYES, *_FILES, ModelCapability.JSON_MODE, ModelCapability.STRUCTURED_OUTPUT)
        found: dict[ModelCapability, bool | int | None] = dict.fromkeys((*unknown, ModelCapability.REASONING))
        found |= dict.fromkeys(_ALWAYS, True)
        found[ModelCapability.EMBEDDINGS] = False if self.embeddings is None else self.embeddings.known
        return found | dict.fromkeys(self.can, True) | dict.fromkeys(self.cannot, False)


_ALWAYS = (
    *(ModelCapability.STREAMING, ModelCapability.ASYNC, ModelCapability.SYSTEM_PROMPT),
    *(ModelCapability.MULTI_TURN, ModelCapability.PARALLEL_INFERENCE),
)

ANY = Service(
    "compatible",
    "The format itself. A server that is not known gets every field that servers of this format are known to take.",
    None,
    quirks=ChatQuirks(accepted=EXTENDED, done_marker=False),
    needs_key=False,
    needs_model=False,
    options=_USUAL | {"chat_template_kwargs", "metadata", "service_tier", "store"},
    cannot=frozenset(),
    embeddings=embedding_services.ANY,
)
"""A server of this format at any address; it is for who runs it to know what it takes."""

SERVICES: Mapping[str, Service] = {
    row.name: row
    for row in (
        Service(
            "maritaca",
            "github.com/maritaca-ai/maritalk-api, July 2026: documentation/api/en/completion.md; in docs/en there"
            " one tool by name in examples/csharp-js.md, json_object and json_schema in structured_outputs.md, PDFs"
            " in files_in_completions_api_en.md, options there, in flex-tier.md and in tools.md.",
            "https://chat.maritaca.ai/api",
            "MARITACA_API_KEY",
            ChatQuirks(accepted=STANDARD - _LOGPROBS - {"seed", "logit_bias", "reasoning"}),
            model="sabia-4",
            options=frozenset({"service_tier", "extraction_effort"})
            | {"web_search", "web_search_filters", "code_execution", "data_ocean"},
            can=_TOOLS | _FILES | {ModelCapability.JSON_MODE, ModelCapability.STRUCTURED_OUTPUT},
            cannot=_EYES,
        ),
        Service(
            "vllm",
            "docs.vllm.ai, OpenAI-compatible server: sampling parameters, structured_outputs, reasoning_effort.",
            "http://127.0.0.1:8000/v1",
            "VLLM_API_KEY",
            ChatQuirks(
                accepted=EXTENDED,
                efforts=frozenset({"low", "medium", "high"}),
                structured_outputs=frozenset({"regex", "grammar"}),
            ),
            needs_key=False,
            needs_model=False,
            options=_USUAL
            | {"chat_template_kwargs", "ignore_eos", "include_reasoning", "min_tokens", "mm_processor_kwargs"}
            | {"skip_special_tokens", "stop_token_ids"},
            embeddings=embedding_services.VLLM,
            attachments=intake.VLLM,
        ),
        Service(
            "lmstudio",
            "lmstudio.ai/docs/developer/openai-compat/chat-completions: the payload parameters; its pages on tools and"
            " structured output: no tool by its name, and no json_object.",
            "http://127.0.0.1:1234/v1",
            "LM_STUDIO_API_KEY",
            ChatQuirks(
                accepted=(STANDARD | {"top_k"}) - _LOGPROBS - {"n", "reasoning"}, named_tool=False, json_object=False
            ),
            needs_key=False,
            options=frozenset({"draft_model", "repeat_penalty", "ttl"}),
            embeddings=embedding_services.LMSTUDIO,
            attachments=intake.LM_STUDIO,
        ),
        Service(
            "mlx-lm",
            "mlx_lm/server.py of mlx-lm 0.32: the fields that it reads; no tool_choice and no response_format,"
            " so that the prompt asks for a form. Its logprobs are in no stream and have no texts; it takes stop"
            " strings for tokens, and where they are others, it cuts the string out and goes on.",
            "http://127.0.0.1:8080/v1",
            None,
            ChatQuirks(
                accepted=EXTENDED - _LOGPROBS - {"n", "tool_choice"},
                reasoning="enable_thinking",
                efforts=frozenset({"none", "high"}),
                reasoning_field="reasoning",
                schemas=None,
            ),
            needs_key=False,
            needs_model=False,
            options=frozenset({"adapters", "chat_template_kwargs", "draft_model", "num_draft_tokens"})
            | {"frequency_context_size", "presence_context_size", "repetition_context_size"}
            | {"xtc_probability", "xtc_threshold"},
            cannot=_FILES | _EYES,
            finds_stops=False,
        ),
        Service(
            "openrouter",
            "openrouter.ai/docs/api_reference/parameters, and its guides on reasoning tokens and on structured outputs,"
            " which are strict; one answer alone.",
            "https://openrouter.ai/api/v1",
            "OPENROUTER_API_KEY",
            ChatQuirks(accepted=EXTENDED - {"n"}, reasoning="reasoning", reasoning_field="reasoning", dialect="strict"),
            options=_USUAL | {"models", "plugins", "provider", "route", "top_a", "transforms", "verbosity"},
            cannot=frozenset(),
            embeddings=embedding_services.OPENROUTER,
            attachments=intake.OPENROUTER,
        ),
        Service(
            "groq",
            "console.groq.com/docs/openai: logprobs, logit_bias, names of speakers and n are answered with 400;"
            " docs/structured-outputs: strict for two models, no streams; beside tools it is"
            " answered with 400, as the Groq provider of vercel/ai knows.",
            "https://api.groq.com/openai/v1",
            "GROQ_API_KEY",
            ChatQuirks(
                accepted=STANDARD - _LOGPROBS - {"n", "logit_bias"},
                max_tokens="max_completion_tokens",
                names=False,
                reasoning_field="reasoning",
                form_clashes=frozenset({"tools", "stream"}),
                dialect="strict",
                strict=r"openai/gpt-oss-(20|120)b",
            ),
            options=_USUAL | {"reasoning_format", "service_tier"},
            embeddings=embedding_services.GROQ,
            attachments=intake.GROQ,
        ),
        Service(
            "mistral",
            "docs.mistral.ai/api and Mistral's OpenAPI file: random_seed, tool_choice any; unknown fields are refused,"
            " and usage comes in every stream. Ids of calls have 9 letters and digits.",
            "https://api.mistral.ai/v1",
            "MISTRAL_API_KEY",
            ChatQuirks(
                accepted=STANDARD - _LOGPROBS - {"logit_bias", "reasoning"},
                any_tool="any",
                seed="random_seed",
                names=False,
                call_ids="[a-zA-Z0-9]{9}",
                stream_usage=False,
            ),
            options=frozenset({"parallel_tool_calls", "prediction", "prompt_mode", "safe_prompt"}),
            embeddings=embedding_services.MISTRAL,
            attachments=intake.MISTRAL,
        ),
        Service(
            "deepseek",
            "api-docs.deepseek.com, Create Chat Completion: json_object alone, with the form in the prompt; thinking is"
            " switched by a field of its own, and refuses forced calls; guides/thinking_mode: a turn with calls that"
            " comes back without its reasoning_content is answered with 400, in other turns it is ignored.",
            "https://api.deepseek.com",
            "DEEPSEEK_API_KEY",
            ChatQuirks(
                accepted=STANDARD - {"seed", "n", "logit_bias", "reasoning"},
                reasoning_back="reasoning_content",
                schemas="json_object",
            ),
            options=frozenset({"reasoning_effort", "thinking"}),
            can=frozenset({ModelCapability.JSON_MODE}),
            attachments=intake.DEEPSEEK,
        ),
        Service(
            "together",
            "docs.together.ai, Create Chat Completion: logprobs is a count there, which this format does not say;"
            " docs/inference/chat/structured-outputs: the schema in the prompt as well.",
            "https://api.together.xyz/v1",
            "TOGETHER_API_KEY",
            ChatQuirks(accepted=EXTENDED - _LOGPROBS, reasoning_field="reasoning", schema_prompted=True),
            options=_USUAL | {"chat_template_kwargs", "safety_model"},
            embeddings=embedding_services.TOGETHER,
            attachments=intake.TOGETHER,
        ),
        Service(
            "fireworks",
            "docs.fireworks.ai, Create Chat Completion; structured-responses: models do not see the schema"
            " by themselves, and grammars are GBNF, which ours are not.",
            "https://api.fireworks.ai/inference/v1",
            "FIREWORKS_API_KEY",
            ChatQuirks(accepted=EXTENDED, schema_prompted=True),
            options=_USUAL | {"context_length_exceeded_behavior", "prompt_truncate_len"},
            embeddings=embedding_services.FIREWORKS,
            attachments=intake.FIREWORKS,
        ),
        Service(
            "xai",
            "docs.x.ai, Chat Completions: max_completion_tokens; logit_bias is not supported.",
            "https://api.x.ai/v1",
            "XAI_API_KEY",
            ChatQuirks(accepted=STANDARD - {"logit_bias"}, max_tokens="max_completion_tokens"),
            options=_USUAL | {"deferred", "search_parameters"},
            attachments=intake.XAI,
        ),
        Service(
            "gemini",
            "ai.google.dev/gemini-api/docs/openai: address, key and reasoning_effort. Other fields are not listed,"
            " so only the plainest are accepted. Models before Gemini 3 refuse tools beside a form:"
            " GoogleModelProfile of pydantic-ai.",
            "https://generativelanguage.googleapis.com/v1beta/openai",
            "GEMINI_API_KEY",
            ChatQuirks(
                accepted=STANDARD - _LOGPROBS - {"seed", "logit_bias", "presence_penalty", "frequency_penalty"},
                done_marker=False,
                form_clashes=frozenset({"tools"}),
                tool_schemas="gemini",
            ),
            options=frozenset({"extra_body"}),
            embeddings=embedding_services.GEMINI,
            attachments=intake.GEMINI,
        ),
        Service(
            "azure",
            "learn.microsoft.com, Azure OpenAI, v1 API: https://RESOURCE.openai.azure.com/openai/v1, a key as bearer,"
            " no api-version; model is the name of a deployment.",
            None,
            "AZURE_OPENAI_API_KEY",
            ChatQuirks(max_tokens="max_completion_tokens", dialect="strict"),
            options=_USUAL | {"metadata", "prediction", "service_tier", "store", "strict_tools", "verbosity"},
            cannot=frozenset(),
            embeddings=embedding_services.AZURE,
            attachments=intake.OPENAI_CHAT,
        ),
    )
}
"""The services that are known, by the name of their provider."""
