"""Anthropic's own Messages API. Knows which of its models takes what; the format itself is in `wire`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError, shown
from abstractllm.providers import intake
from abstractllm.providers.http.attachments import Attachments
from abstractllm.providers.http.provider import HTTPProvider
from abstractllm.providers.http.rehearsal import rehearse
from abstractllm.providers.http.secret import Secret
from abstractllm.types import GenerateRequest
from abstractllm.wire import anthropic_request
from abstractllm.wire.anthropic import AnthropicMessages
from abstractllm.wire.anthropic_request import AnthropicQuirks
from abstractllm.wire.asking import Asking, Way, as_asked
from abstractllm.wire.codec import Codec
from abstractllm.wire.dialects import rooted

BASE_URL = "https://api.anthropic.com"
BASE_URL_VARIABLE = "ANTHROPIC_BASE_URL"
VERSION = "2023-06-01"
"""The version of the API, in a header of every request: https://platform.claude.com/docs/en/api/versioning."""

_ANY = AnthropicQuirks()
_MODELS: tuple[tuple[re.Pattern[str], AnthropicQuirks], ...] = tuple(
    (re.compile(pattern), quirks)
    for pattern, quirks in (
        (r"claude-(?:1|2|instant|3-(?:opus|sonnet|haiku|5))", AnthropicQuirks(reasoning="none", json_output=False)),
        (r"claude-(?:3-7|(?:opus|sonnet)-4(?:-[01]\b|[-@]\d{8}|(?![-\d])))", AnthropicQuirks(json_output=False)),
        (r"claude-(?:opus|sonnet|haiku)-4-5", _ANY),
        (r"claude-(?:opus|sonnet)-4-6", AnthropicQuirks(reasoning="effort", max_tokens=16384)),
        (r"claude-", AnthropicQuirks(reasoning="effort", sampling=False, max_tokens=16384)),
    )
)
"""What a model takes, by the first pattern found in its name, in which a dot counts as a hyphen.

Sources, pages under https://platform.claude.com/docs/en: build-with-claude/extended-thinking (budgets),
build-with-claude/adaptive-thinking (efforts, from 4.6 on), about-claude/models/migration-guide (no sampling parameters
from Opus 4.7 on) and build-with-claude/structured-outputs (from 4.5 on). Newer models are taken to be like the newest
known. Where thinking with an effort and the answer share `max_tokens`, there is more room.
"""

_ALWAYS_THINKING = re.compile(r"claude-(?:mythos|fable)")
"""Models that refuse not to think: build-with-claude/adaptive-thinking."""


def quirks_of(model: str | None) -> AnthropicQuirks:
    """Return what a model takes. A name that is not Anthropic's stands for a model of another service."""
    name = _plain(model)
    return next((quirks for pattern, quirks in _MODELS if pattern.search(name)), _ANY)


def _plain(model: str | None) -> str:
    return (model or "").lower().replace(".", "-")


class _ByModel(AnthropicMessages):
    """The codec with the quirks of each request's model."""

    def encode_request(self, request: GenerateRequest) -> Mapping[str, Any]:
        return anthropic_request.encode_request(request, quirks_of(request.model))


class AnthropicProvider(HTTPProvider):
    """Asks Claude, or another service that speaks Anthropic's Messages format.

    Settings: `model`, such as "claude-sonnet-4-5", has no default; `base_url`, or the environment variable
    ANTHROPIC_BASE_URL, has no "/v1" at its end; `api_key`, or ANTHROPIC_API_KEY; `max_retries`; `betas` is a list of
    names for the header `anthropic-beta`.

    `reasoning` is a budget of tokens for older models, an effort for newer ones. A model's signed thinking is in the
    `provider_data` of its answer; `answer.to_message()` in `messages` gives it back unchanged. Options stand in the
    body as they are; those that a request says already are refused.

    A `response_format` that a model cannot be held to is asked for as the parameters of a tool that must be called, or
    by the prompt where the model reasons, which goes with no forced call.
    """

    name: ClassVar[str] = "anthropic"
    path: ClassVar[str] = "/v1/messages"
    key_variable: ClassVar[str | None] = "ANTHROPIC_API_KEY"
    parameters: ClassVar[frozenset[str]] = frozenset(
        {"max_tokens", "temperature", "top_p", "top_k", "stop", "tool_choice", "response_format", "reasoning"}
    )
    settings: ClassVar[frozenset[str]] = HTTPProvider.settings | {"betas"}
    attachments: ClassVar[Attachments] = intake.ANTHROPIC
    options: ClassVar[frozenset[str]] = frozenset(
        {"service_tier", "metadata", "cache_control", "thinking", "output_config", "disable_parallel_tool_use"}
        | {"inference_geo", "container", "context_management", "speed"}
    )

    def get_capabilities(self) -> Capabilities:
        """Return what the model can do, by its name; None where only the service knows."""
        model = self.get_param("model")
        known = True if "claude-" in _plain(model) else None
        quirks = quirks_of(model)
        return {
            ModelCapability.STREAMING: True,
            ModelCapability.ASYNC: True,
            ModelCapability.MULTI_TURN: True,
            ModelCapability.PARALLEL_INFERENCE: True,
            ModelCapability.SYSTEM_PROMPT: True,
            ModelCapability.TOOL_USE: known,
            ModelCapability.FUNCTION_CALLING: known,
            ModelCapability.VISION: known,
            ModelCapability.DOCUMENTS: known,
            ModelCapability.EMBEDDINGS: False,
            ModelCapability.JSON_MODE: known,
            ModelCapability.STRUCTURED_OUTPUT: known,
            ModelCapability.REASONING: known and quirks.reasoning != "none",
            ModelCapability.MAX_TOKENS: quirks.max_tokens,
            ModelCapability.CONTEXT_WINDOW: None,
        }

    def _codec(self) -> AnthropicMessages:
        return _CODEC

    def _codec_for(self, request: GenerateRequest) -> Codec:
        way = _way_of(request)
        return _CODEC if way is None else Asking(_CODEC, way, request)

    def _headers(self, request: GenerateRequest, key: Secret | None) -> Mapping[str, str]:
        headers = {"anthropic-version": VERSION}
        if self._betas:
            headers["anthropic-beta"] = ",".join(self._betas)
        return headers if key is None else headers | {"x-api-key": key.reveal()}

    def _configure(self, config: Mapping[str, Any]) -> None:
        betas = _checked_betas(config.get("betas"))
        super()._configure({"base_url": os.environ.get(BASE_URL_VARIABLE) or BASE_URL, **config})
        self._betas = betas

    def _check(self, request: GenerateRequest) -> None:
        super()._check(request)
        if not request.model:
            raise InvalidParameterError(
                "model", "No model; pass model=, such as 'claude-sonnet-4-5'.", provider=self.name
            )
        if request.temperature is not None and request.temperature > 1:
            what = f"temperature={request.temperature:g} is not valid here: this service takes 0 to 1."
            raise InvalidParameterError("temperature", what, provider=self.name)
        if request.reasoning == "none" and _ALWAYS_THINKING.search(_plain(request.model)):
            raise UnsupportedFeatureError("reasoning", "This model always reasons; leave it out.", provider=self.name)
        codec = self._codec_for(request)
        _check_thinking(as_asked(codec, request))
        rehearse(codec, request)


_CODEC = _ByModel()


def _way_of(request: GenerateRequest) -> Way | None:
    """Return how a model is asked for a form; None for the service's own field, which may refuse it."""
    form = request.response_format
    if form is None or form.kind != "json":
        return None
    if quirks_of(request.model).json_output and anthropic_request.output_schema(form) is not None:
        return None
    return "prompt" if _reasons(request) or rooted(form.schema) is None else "tool"


def _reasons(request: GenerateRequest) -> bool:
    """Whether the model reasons, as far as the request and its name tell."""
    if request.reasoning is not None:
        return request.reasoning != "none"
    thinking = request.options.get("thinking")
    asked = isinstance(thinking, Mapping) and thinking.get("type") != "disabled"
    return asked or _ALWAYS_THINKING.search(_plain(request.model)) is not None


def _check_thinking(request: GenerateRequest) -> None:
    """Refuse what the service does not take together with thinking: build-with-claude/extended-thinking."""
    if request.reasoning in (None, "none"):
        return
    clashes = {
        "temperature": request.temperature not in (None, 1.0),
        "top_k": request.top_k is not None,
        "top_p": request.top_p is not None and request.top_p < 0.95,
        "tool_choice": request.tool_choice not in (None, "auto", "none"),
    }
    for name, clashing in clashes.items():
        if clashing:
            what = f"This service does not take {name}={shown(getattr(request, name))} where the model reasons."
            raise UnsupportedFeatureError(name, f"{what} Leave out one of both.", provider="anthropic")


def _checked_betas(value: object) -> tuple[str, ...]:
    """Return the names of betas, which go into a header as they are."""
    given = () if value is None else value
    names = tuple(given) if isinstance(given, (list, tuple)) else (None,)
    if not all(isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in names):
        raise InvalidParameterError("betas", f"betas={shown(value)} is not valid: it must be a list of names.")
    return tuple(str(name) for name in names)
