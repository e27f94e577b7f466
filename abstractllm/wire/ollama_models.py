"""What Ollama says of models: the list of them, what one can do, and how far a download is. Pure decoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec import Struct, field, json

from abstractllm.wire.bodies import MALFORMED, cut_off, malformed, read_answer
from abstractllm.wire.deferred import DeferredReader
from abstractllm.wire.lines import LineDecoder
from abstractllm.wire.ollama_answer import failed
from abstractllm.wire.ollama_stream import whole


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model that the service has. `size` is in bytes; None and empty texts are unknown."""

    name: str
    size: int | None = None
    digest: str = ""
    family: str = ""
    parameter_size: str = ""
    quantization: str = ""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What one model is. `capabilities` are the service's words, such as "tools", "vision" and "thinking".

    `context_window` is the model's own, in tokens; the service computes with `num_ctx`. None is unknown.
    """

    capabilities: frozenset[str] | None = None
    context_window: int | None = None
    family: str = ""
    parameter_size: str = ""
    quantization: str = ""


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far a download is: what is being done and, for one of its files, the bytes."""

    status: str
    digest: str | None = None
    total: int | None = None
    completed: int | None = None


class _Details(Struct):
    family: str | None = None
    parameter_size: str | None = None
    quantization_level: str | None = None


class _Model(Struct):
    name: str = ""
    model: str = ""
    size: int | None = None
    digest: str | None = None
    details: _Details | None = None


class _Tags(Struct):
    models: list[_Model] | None = None
    error: Any = None


class _Show(Struct):
    capabilities: list[str] | None = None
    model_info: dict[str, Any] | None = None
    details: _Details = field(default_factory=_Details)
    error: Any = None


class _Progress(Struct):
    status: str = ""
    digest: str | None = None
    total: int | None = None
    completed: int | None = None
    error: Any = None


def decode_tags(body: bytes, provider: str) -> tuple[LocalModel, ...]:
    """Return the models in an answer of `/api/tags`. Raises GenerationError for what is none, or its error."""
    _, tags = read_answer(body, _Tags, provider)
    if tags.error is not None:
        raise failed(tags.error, provider)
    return tuple(_local(model) for model in tags.models or ())


def _local(model: _Model) -> LocalModel:
    details = model.details or _Details()
    return LocalModel(
        model.name or model.model,
        model.size,
        model.digest or "",
        details.family or "",
        details.parameter_size or "",
        details.quantization_level or "",
    )


def decode_show(body: bytes, provider: str) -> ModelFacts:
    """Return the facts in an answer of `/api/show`. Raises GenerationError for what is none, or its error."""
    _, shown = read_answer(body, _Show, provider)
    if shown.error is not None:
        raise failed(shown.error, provider)
    return ModelFacts(
        None if shown.capabilities is None else frozenset(shown.capabilities),
        _context_window(shown.model_info or {}),
        shown.details.family or "",
        shown.details.parameter_size or "",
        shown.details.quantization_level or "",
    )


def _context_window(info: dict[str, Any]) -> int | None:
    """Return the length of the context, whose key begins with the architecture's name."""
    length = info.get(f"{info.get('general.architecture')}.context_length")
    return length if isinstance(length, int) else None


_decode = json.Decoder(_Progress).decode


class PullDecoder:
    """Decodes the answer of `/api/pull`, a line for each step; the last one has the status "success"."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._lines = LineDecoder()
        self._reader = DeferredReader()
        self._done = False

    def feed(self, data: bytes) -> Sequence[PullProgress]:
        """Return the steps that are complete with these bytes. Raises GenerationError, or the error in them."""
        return self._reader.read(self._lines.feed(data), self._step)

    def end(self) -> Sequence[PullProgress]:
        """Return what is left at the end of the connection; raises ProviderConnectionError if that was too early."""
        steps = self._reader.read([whole(self._lines.end())], self._step)
        if not self._done:
            raise cut_off(self._provider)
        return steps

    def _step(self, data: bytes) -> PullProgress | None:
        if not data or data.isspace():
            return None
        try:
            line = _decode(data)
        except MALFORMED as error:
            raise malformed(data, error, self._provider) from error
        if line.error is not None:
            raise failed(line.error, self._provider)
        self._done = line.status == "success"
        return PullProgress(line.status, line.digest, line.total, line.completed)
