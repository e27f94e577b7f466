"""What the rules for providers have in common: the provider under test, and how they ask it. Knows no rule."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from abstractllm.capabilities import ModelCapability
from abstractllm.interface import AbstractLLMInterface, ToolLike
from abstractllm.testing.faces import Answer, Face, ask, within


class Asking:
    """A provider under test. Subclasses say in these names what it is asked, and `make` it."""

    prompt: ClassVar[str] = "Count from one to five, in words."
    """What is asked; the answer should be of several tokens."""

    other_prompts: ClassVar[Sequence[str]] = ("Name three colours.", "What is the capital of France?", "Say hello.")
    """What is asked at the same time as `prompt` where calls run side by side."""

    tool_prompt: ClassVar[str | None] = None
    """A prompt that the model answers with a call of one of `tools`; None where that cannot be relied upon."""

    tools: ClassVar[Sequence[ToolLike]] = ()
    """Tools for `tool_prompt`."""

    params: ClassVar[Mapping[str, Any]] = {}
    """Parameters of every call, such as `{"temperature": 0}` for answers that do not change."""

    deterministic: ClassVar[bool] = True
    """Whether one request, with `params`, always gets one answer. False leaves out the rules that compare answers."""

    names_stops: ClassVar[bool] = True
    """Whether an answer that a stop string ended says which one it was; some services do not tell."""

    patience: ClassVar[float] = 60.0
    """Seconds after which waiting for an answer counts as hanging."""

    def make(self) -> AbstractLLMInterface:
        """Return a new provider, ready to be asked. Each rule makes its own and closes it."""
        raise NotImplementedError("Write make(self), which returns a new provider.")

    def make_failing(self) -> AbstractLLMInterface | None:
        """Return a provider whose work fails, such as one of a server that is not there; None leaves the rule out."""
        return None

    def make_waiting(self, gate: threading.Event) -> AbstractLLMInterface | None:
        """Return a provider that waits for `gate` before it answers, in the way it waits for its backend.

        A provider that blocks a thread calls `gate.wait()` in `_stream`. None leaves the rule out.
        """
        return None

    # How the rules ask.

    @contextmanager
    def _provider(self) -> Iterator[AbstractLLMInterface]:
        llm = self.make()
        try:
            yield llm
        finally:
            llm.close()

    def _within(self, what: str, work: Any) -> Any:
        return within(self.patience, what, work)

    def _faces(self, llm: AbstractLLMInterface) -> list[Face]:
        streams = llm.get_capabilities().get(ModelCapability.STREAMING) is not False
        return [face for face in Face if streams or not face.streams]

    def _streams(self, llm: AbstractLLMInterface) -> list[Face]:
        return [face for face in self._faces(llm) if face.streams]

    def _ask(self, llm: AbstractLLMInterface, face: Face, prompt: str | None = None, **arguments: Any) -> Answer:
        asked = self.prompt if prompt is None else prompt
        answer: Answer = self._within(face.value, lambda: ask(llm, face, asked, **{**self.params, **arguments}))
        return answer


def supports(llm: AbstractLLMInterface, parameter: str) -> bool:
    """Return whether a provider declares a parameter."""
    return parameter in getattr(llm, "parameters", ())
