"""The rules for what a provider may offer beside an answer: each looks at what the provider declares.

Knows no provider by name. A rule about something that is not declared has nothing to check and passes.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    AbstractLLMError,
    FileProcessingError,
    RequestTimeoutError,
    UnsupportedFeatureError,
)
from abstractllm.interface import AbstractLLMInterface
from abstractllm.testing.asking import Asking, supports
from abstractllm.testing.checks import check_answer, check_logprobs, require
from abstractllm.testing.faces import Face
from abstractllm.testing.requests import declared
from abstractllm.tools import to_tool_definitions
from abstractllm.types import GenerateResponse

_FORM: Mapping[str, Any] = {
    "type": "object",
    "properties": {"yes": {"type": "boolean"}},
    "required": ["yes"],
    "additionalProperties": False,
}
"""A form that every answer to every question can have."""

_LONG = 400
"""Tokens that an answer of that form certainly has room in, and a tool call."""


class FeatureRules(Asking):
    """The rules about parameters, files and limits."""

    def test_declared_parameters_are_taken(self) -> None:
        """A parameter that the provider declares is taken, and there is an answer."""
        with self._provider() as llm:
            for arguments in declared(llm):
                for face in (Face.WHOLE, Face.ASYNC):
                    check_answer(self._ask(llm, face, **arguments).whole, f"{face.value} with {arguments}")

    def test_n_gives_so_many_answers(self) -> None:
        """`n=2` gives two whole answers in `choices`, numbered, of which the first is also the answer itself."""
        with self._provider() as llm:
            if not supports(llm, "n"):
                return
            for face in self._faces(llm):
                answer = self._ask(llm, face, n=2)
                numbers = [choice.choice for choice in answer.whole.choices]
                require(numbers == [0, 1], f"{face.value} with n=2 gave the choices {numbers}, not [0, 1].")
                reasons = [choice.finish_reason for choice in answer.whole.choices]
                require(all(reasons), f"{face.value} with n=2: the choices have the finish_reasons {reasons}.")
                first = answer.whole.choices[0].content
                require(
                    answer.whole.content == first, f"{face.value} with n=2: content is not that of the first choice."
                )

    def test_logprobs_are_those_of_the_answer(self) -> None:
        """`logprobs` come where they are asked for and nowhere else, natural and likeliest first."""
        with self._provider() as llm:
            if not supports(llm, "logprobs"):
                return
            top = 2 if supports(llm, "top_logprobs") else 0
            wanted: dict[str, Any] = {"logprobs": True, **({"top_logprobs": top} if top else {})}
            for face in self._faces(llm):
                require(not self._ask(llm, face).whole.logprobs, f"{face.value} gave logprobs that nobody asked for.")
                check_logprobs(self._ask(llm, face, **wanted).whole, top, face.value)

    def test_a_seed_repeats_an_answer(self) -> None:
        """A request that is sampled with a `seed` gets the same answer again, through every face."""
        with self._provider() as llm:
            if not (self.deterministic and supports(llm, "seed") and supports(llm, "temperature")):
                return
            sampled: dict[str, Any] = {"temperature": 1.0, "seed": 17}
            first = self._ask(llm, Face.WHOLE, **sampled).whole.content
            for face in self._faces(llm):
                again = self._ask(llm, face, **sampled).whole.content
                require(again == first, f"{face.value} with the same seed gave {again!r:.200}, not {first!r:.200}.")

    def test_a_response_format_is_kept(self) -> None:
        """With a `response_format` the text has that form, and `parsed` is its value."""
        with self._provider() as llm:
            if not supports(llm, "response_format"):
                return
            asked = {"response_format": dict(_FORM), **self._room(llm)}
            for face in self._faces(llm):
                answer = self._ask(llm, face, "Is the sky blue? Answer yes: true or false.", **asked).whole
                value = _json(answer.content)
                fits = isinstance(value, dict) and list(value) == ["yes"] and isinstance(value["yes"], bool)
                require(fits, f"{face.value}: response_format gave {answer.content!r:.200}.")
                require(answer.parsed == value, f"{face.value}: parsed is {answer.parsed!r}, the text says {value!r}.")

    def test_tool_choice_is_obeyed(self) -> None:
        """With `tools`, `tool_choice` forces a call, forces one tool, or forbids calls. One may refuse to force."""
        with self._provider() as llm:
            able = llm.get_capabilities().get(ModelCapability.TOOL_USE)
            if able is not True or not self.tools or not supports(llm, "tool_choice"):
                return
            names = [tool.name for tool in to_tool_definitions(self.tools)]
            for face in self._faces(llm):
                asked = {"tools": self.tools, **self._room(llm)}
                calm = self._ask(llm, face, self.tool_prompt, tool_choice="none", **asked).whole
                require(not calm.has_tool_calls(), f"{face.value}: tool_choice='none' gave {calm.tool_calls!r:.200}.")
                with _may_be_unsupported():
                    for choice, wanted in (("required", names), (names[-1], names[-1:])):
                        made = self._ask(llm, face, tool_choice=choice, **asked).whole.tool_calls
                        called = [one.name for one in made]
                        right = bool(made) and set(called) <= set(wanted)
                        require(right, f"{face.value}: tool_choice={choice!r} gave calls of {called}.")

    def test_tokens_are_counted_as_they_are_used(self) -> None:
        """Where a provider counts tokens, it counts those that `usage.prompt_tokens` reports."""
        with self._provider() as llm:
            try:
                counted = llm.count_tokens(self.prompt)
            except UnsupportedFeatureError:
                return
            usage = self._ask(llm, Face.WHOLE).whole.usage
            used = None if usage is None else usage.prompt_tokens
            require(counted == used, f"count_tokens says {counted}, and usage.prompt_tokens was {used}.")

    def test_text_files_are_read(self) -> None:
        """A text file becomes part of the prompt, in every face; a missing one raises FileProcessingError."""
        with self._provider() as llm, tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "notes.txt"
            path.write_text("Buy milk, bread and seven apples.")
            for face in self._faces(llm):
                without, with_file = (_prompt_tokens(self._ask(llm, face, files=files).whole) for files in ([], [path]))
                longer = with_file > without or not without  # another rule wants a count at all
                require(longer, f"{face.value}: a file left the prompt at {without} tokens.")
                self._fails(FileProcessingError, llm, face, files=[path.with_name("missing.txt")])

    def test_a_deadline_ends_the_request(self) -> None:
        """What `make_waiting` returns raises RequestTimeoutError when `timeout` passes before it can answer."""
        gate = threading.Event()
        llm = self.make_waiting(gate)
        if llm is None:
            return
        try:
            for face in self._faces(llm):
                self._fails(RequestTimeoutError, llm, face, timeout=0.05)
        finally:
            gate.set()
            llm.close()

    # How these rules ask.

    def _room(self, llm: AbstractLLMInterface) -> Mapping[str, Any]:
        return {"max_tokens": _LONG} if supports(llm, "max_tokens") else {}

    def _fails(self, error: type[AbstractLLMError], llm: AbstractLLMInterface, face: Face, **arguments: Any) -> None:
        """Require that a request raises this error, at the call or from its work."""
        wanted = f"{face.value} with {arguments} must raise {error.__name__}"
        try:
            self._ask(llm, face, **arguments)
        except error:
            return
        except AbstractLLMError as other:
            raise AssertionError(f"{wanted}, not {other!r}.") from other
        raise AssertionError(f"{wanted}, and it answered.")


@contextmanager
def _may_be_unsupported() -> Iterator[None]:
    """Let a refusal pass: it says what cannot be done, which is as good as doing it."""
    try:
        yield
    except UnsupportedFeatureError:
        return


def _json(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return None
    return value


def _prompt_tokens(answer: GenerateResponse) -> int:
    return answer.usage.prompt_tokens if answer.usage else 0
