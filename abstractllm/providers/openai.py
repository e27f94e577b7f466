"""OpenAI's own service: which of its two APIs a model is asked through, and what each family of models takes.

Knows the names of families. The wire formats are known to `wire` alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError, shown
from abstractllm.providers import embedding_services, intake
from abstractllm.providers.compatible import no_model, openai_embeddings
from abstractllm.providers.embedding import EmbeddingService
from abstractllm.providers.http.attachments import Attachments
from abstractllm.providers.http.embeddings import HTTPEmbeddings
from abstractllm.types import GenerateRequest, Reasoning
from abstractllm.wire.asking import as_asked
from abstractllm.wire.codec import Codec
from abstractllm.wire.openai_chat import STANDARD, ChatQuirks, OpenAIChat
from abstractllm.wire.openai_chat_way import codec_for
from abstractllm.wire.openai_embeddings import OpenAIEmbeddings
from abstractllm.wire.openai_facts import check_sayable
from abstractllm.wire.openai_responses import RESPONSES_STANDARD, OpenAIResponses, ResponsesQuirks

API = Literal["chat", "responses"]

_SAMPLING = frozenset({"temperature", "top_p", "logprobs", "top_logprobs"})
_PLAIN_ONLY = _SAMPLING | {"stop", "logit_bias", "presence_penalty", "frequency_penalty"}
_EFFORTS = frozenset({"low", "medium", "high"})


@dataclass(frozen=True, slots=True)
class Family:
    """Models whose whole name, without a date at its end, is matched by `pattern`.

    - `accepted`: the parameters that they take. `unreasoned`: those that they take besides, as long as they do not
      reason: with no effort, or none given where that is what the model does by itself.
    - `efforts`: the efforts of reasoning that they know, none of them for models that do not reason.
    - `api`: the API that serves them; most are served by both, and asked through Chat Completions.
    - `reasons`: whether they reason at all; None where that is unknown. `unasked`: whether without an effort as well.
    - `calls`: the API that serves them where they reason and have tools, if it is another one.
    """

    pattern: str
    accepted: frozenset[str]
    efforts: frozenset[str]
    unreasoned: frozenset[str] = frozenset()
    api: API = "chat"
    reasons: bool | None = True
    unasked: bool = False
    calls: API | None = None

    def accepted_at(self, effort: Reasoning | None) -> frozenset[str]:
        """Return the parameters that go with an effort."""
        return self.accepted if self._reasons_at(effort) else self.accepted | self.unreasoned

    def api_at(self, effort: Reasoning | None, *, tools: bool) -> API:
        """Return the API that serves requests of an effort, with tools or without."""
        return self.calls if self.calls and tools and self._reasons_at(effort) else self.api

    def _reasons_at(self, effort: Reasoning | None) -> bool:
        return self.unasked if effort is None else effort != "none"


_REASONING = STANDARD - _PLAIN_ONLY

FAMILIES: tuple[Family, ...] = (
    Family(r"(o1|o3)-pro|(o3|o4-mini)-deep-research|computer-use-preview", _REASONING, _EFFORTS, api="responses"),
    Family(r"gpt-5-pro", _REASONING, frozenset({"high"}), api="responses"),
    Family(r"gpt-5\.\d+-pro", _REASONING, frozenset({"medium", "high"}), api="responses"),
    Family(r"(gpt-5(\.\d+)?-codex|codex-mini)(-.+)?", _REASONING, _EFFORTS, api="responses"),
    Family(r"o1|o3|o3-mini|o4-mini|gpt-5(-mini|-nano)?", _REASONING, _EFFORTS),
    Family(r"gpt-5\.\d+-chat-latest", _REASONING, frozenset({"medium"})),
    Family(r"gpt-5\.[1-3](-mini|-nano)?", _REASONING, _EFFORTS | {"none"}, unreasoned=_SAMPLING),
    Family(
        r"gpt-5\.4(-mini|-nano)?",
        _REASONING,
        _EFFORTS | {"none"},
        unreasoned=_SAMPLING,
        calls="responses",
    ),
    Family(
        r"gpt-5\.\d+(-mini|-nano|-sol|-terra|-luna)?",
        _REASONING,
        _EFFORTS | {"none"},
        unreasoned=_SAMPLING,
        unasked=True,
        calls="responses",
    ),
    Family(
        r"gpt-3\.5-.+|gpt-4(\D.*)?|chatgpt-4o-latest|gpt-5-chat-latest",
        STANDARD - {"reasoning"},
        frozenset(),
        reasons=False,
    ),
)
"""The families that are known; the first whose pattern fits counts.

Sources: which models only the Responses API serves, `ResponsesModel` of openai-python, src/openai/types/shared, and the
pages of the codex models. Which parameters models that reason refuse: OpenAI's guide on reasoning and the reference of
`stop`; with gpt-5.1 and later, the guide to the latest model, by which temperature, top_p and logprobs go with the
effort "none" alone. Efforts: the reference of `reasoning_effort`; of gpt-5.N-pro and -chat-latest, what users measured
(community.openai.com, topic 1371738). From gpt-5.4 on, Chat Completions answers 400 to tools beside an effort, and from
gpt-5.5 on, whose own effort is "medium", also to tools without one (community.openai.com, topic 1386454).
"""

UNKNOWN = Family(r".*", STANDARD, _EFFORTS | {"none"}, reasons=None)
"""What a name that fits no family is taken for: everything may work, and the service says what does not."""

_DATE = re.compile(r"-\d{4}(-\d{2}-\d{2})?(-preview)?$")


@lru_cache(maxsize=256)
def family_of(model: str) -> Family:
    """Return the family of a model; of a fine-tuned one, `ft:BASE:...`, that of its base."""
    name = _DATE.sub("", _base(model))
    return next((family for family in FAMILIES if re.fullmatch(family.pattern, name)), UNKNOWN)


def _base(model: str) -> str:
    """Return the model that a fine-tuned one is made of."""
    return model.split(":")[1] if model.startswith("ft:") else model


_FORMED = ChatQuirks(dialect="strict")
_UNFORMED = ChatQuirks(schemas="tool")
_BEFORE_FORMS = re.compile(r"gpt-3\.5-.+|gpt-4(-.+)?|gpt-4o-2024-05-13")
"""Models that know no schemas for their answers, which came with gpt-4o-2024-08-06: OpenAI's guide to them."""


def _codec_of(family: Family, api: API, provider: str, accepted: frozenset[str]) -> OpenAIChat | OpenAIResponses:
    """Return the format for models of a family and the parameters that they accept."""
    if api == "responses":
        encrypted = family.reasons is True
        return OpenAIResponses(
            ResponsesQuirks(accepted & RESPONSES_STANDARD, efforts=family.efforts, encrypted_reasoning=encrypted),
            provider,
        )
    quirks = ChatQuirks(accepted, max_tokens="max_completion_tokens", efforts=family.efforts, dialect="strict")
    return OpenAIChat(quirks, provider)


@dataclass(frozen=True, slots=True)
class _Route:
    """How requests of one kind are asked: through an API, in its format; with `forms` where they ask for a form."""

    api: API
    accepted: frozenset[str]
    codec: OpenAIChat | OpenAIResponses
    forms: ChatQuirks


@lru_cache(maxsize=1024)
def _route_of(provider: str, api: API | None, model: str | None, effort: Reasoning | None, tools: bool) -> _Route:
    """Return how a model is asked with an effort, with tools or without; through `api` where that is chosen."""
    family = _family_of(model)
    taken, accepted = api or family.api_at(effort, tools=tools), family.accepted_at(effort)
    forms = _UNFORMED if _BEFORE_FORMS.fullmatch(_base(model or "")) else _FORMED
    return _Route(taken, accepted, _codec_of(family, taken, provider, accepted), forms)


def _family_of(model: str | None) -> Family:
    return UNKNOWN if model is None else family_of(model)


@lru_cache(maxsize=256)
def _capabilities_of(model: str | None) -> Capabilities:
    family = _family_of(model)
    able_to_call = True if family is not UNKNOWN and family.api == "chat" else None
    able = (ModelCapability.STREAMING, ModelCapability.ASYNC, ModelCapability.SYSTEM_PROMPT)
    return MappingProxyType(
        {
            **dict.fromkeys((*able, ModelCapability.MULTI_TURN, ModelCapability.PARALLEL_INFERENCE), True),
            **dict.fromkeys((ModelCapability.TOOL_USE, ModelCapability.FUNCTION_CALLING), able_to_call),
            **dict.fromkeys((ModelCapability.JSON_MODE, ModelCapability.STRUCTURED_OUTPUT)),
            **dict.fromkeys((ModelCapability.VISION, ModelCapability.DOCUMENTS)),
            ModelCapability.REASONING: family.reasons,
            ModelCapability.EMBEDDINGS: True,
        }
    )


class OpenAIProvider(HTTPEmbeddings):
    """OpenAI. Setting `api` ("chat" or "responses") chooses the API, which otherwise depends on the model.

    Newer models that reason and have tools are asked through Responses, since Chat Completions refuses both together.

    Parameters are those of all models; what a model or an API does not take is refused at the call. With
    `options={"strict_tools": True}` calls are held to the parameters of their tools; what may be left out of them may
    then be null.
    """

    name: ClassVar[str] = "openai"
    key_variable: ClassVar[str | None] = "OPENAI_API_KEY"
    parameters: ClassVar[frozenset[str]] = STANDARD
    settings: ClassVar[frozenset[str]] = HTTPEmbeddings.settings | {"api"}
    options: ClassVar[frozenset[str]] = frozenset(
        {"metadata", "parallel_tool_calls", "prediction", "prompt_cache_key", "prompt_cache_retention"}
        | {"safety_identifier", "service_tier", "store", "user", "verbosity", "web_search_options"}
        | {"background", "include", "instructions", "max_tool_calls", "previous_response_id", "reasoning", "text"}
        | {"strict_tools", "truncation"}
    )
    defaults: ClassVar[Mapping[str, Any]] = {"base_url": "https://api.openai.com/v1"}
    embeddings: ClassVar[EmbeddingService | None] = embedding_services.OPENAI

    def get_capabilities(self) -> Capabilities:
        """Return what the configured model can do; None stands for what its name does not tell."""
        return _capabilities_of(self.get_param("model"))

    def _configure(self, config: Mapping[str, Any]) -> None:
        super()._configure(config)
        self._api = _checked_api(config.get("api"))

    def _codec(self) -> OpenAIChat | OpenAIResponses:
        return _route_of(self.name, self._api, None, None, False).codec

    def _codec_for(self, request: GenerateRequest) -> Codec:
        route = self._route(request)
        return codec_for(route.codec, request, route.forms)

    def _route(self, request: GenerateRequest) -> _Route:
        return _route_of(self.name, self._api, request.model, request.reasoning, bool(request.tools))

    def _embedding_codec(self) -> OpenAIEmbeddings:
        return openai_embeddings(embedding_services.OPENAI, self.name)

    def _attachments(self, request: GenerateRequest) -> Attachments:
        return intake.OPENAI_RESPONSES if self._route(request).api == "responses" else intake.OPENAI_CHAT

    def _url(self, request: GenerateRequest, base_url: str) -> str:
        path = "/responses" if self._route(request).api == "responses" else "/chat/completions"
        return base_url + path

    def _check(self, request: GenerateRequest) -> None:
        super()._check(request)
        if request.model is None:
            raise no_model()
        route = self._route(request)
        check_sayable(request, route.accepted, f"The model {request.model!r}")
        _check_options(request, route.api)
        route.codec.check_request(as_asked(codec_for(route.codec, request, route.forms), request))


_OF_CHAT = frozenset({"prediction", "verbosity", "web_search_options"})
_OF_RESPONSES = frozenset(
    {"background", "include", "instructions", "max_tool_calls", "previous_response_id", "reasoning", "text"}
    | {"truncation"}
)


def _check_options(request: GenerateRequest, api: API) -> None:
    """Raise UnsupportedFeatureError for an option that only the other API has."""
    foreign = _OF_CHAT if api == "responses" else _OF_RESPONSES
    for name in request.options:
        if name in foreign:
            other = "chat" if api == "responses" else "responses"
            raise UnsupportedFeatureError(
                f"options.{name}", f"The API that this request goes to has no {name!r}; that of api={other!r} has it."
            )


def _checked_api(value: object) -> API | None:
    if value is None or value == "chat" or value == "responses":
        return value
    raise InvalidParameterError("api", f"api={shown(value)} is not valid: it must be 'chat' or 'responses'.")
