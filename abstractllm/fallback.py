"""One model out of several backends: the next is asked where one fails, before it answers, in a way the next may cure.

Knows no backend: a member is whatever fulfils the contract. Which errors may be cured stands in one table.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing, closing
from copy import copy
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, ClassVar

from abstractllm.capabilities import Capabilities, ModelCapability
from abstractllm.errors import (
    AbstractLLMError,
    ConfigurationError,
    ContentFilterError,
    ContextWindowExceededError,
    GenerationError,
    IncompleteOutputError,
    InvalidRequestError,
    MemoryLimitError,
    MissingDependencyError,
    ModelError,
    OutputValidationError,
    PluginError,
    ProviderAPIError,
    QueueFullError,
    RequestTimeoutError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from abstractllm.interface import AbstractLLMInterface, MessageLike, ToolLike
from abstractllm.parameters import CHECKS
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.call import Call
from abstractllm.streams import AsyncResponseStream
from abstractllm.types import GenerateRequest, GenerateResponse, Timeout

logger = logging.getLogger("abstractllm")

KEY = "fallback"
"""Key in an answer's `provider_data` that says which member gave it: `{"member": its number, "name": its name}`."""

CURABLE: Mapping[type[AbstractLLMError], bool] = {
    # The request is wrong, whoever gets it; but how much fits differs from model to model.
    InvalidRequestError: False,
    ContextWindowExceededError: True,
    # Each model can do other things.
    UnsupportedFeatureError: True,
    # This program closed something, forked, or is in the wrong thread: it has to be corrected, not worked around.
    UnsupportedOperationError: False,
    # A mistake in what the user wrote shows when it is made; a library that is not there is a fact of the machine.
    ConfigurationError: False,
    MissingDependencyError: True,
    PluginError: True,
    # Not there, not to be loaded, of a kind that does not run here.
    ModelError: True,
    # No connection, a refused or missing key, too many requests, nothing left to spend, overloaded, broken.
    ProviderAPIError: True,
    # What one service refuses is not to be smuggled into another.
    ContentFilterError: False,
    # What came was no answer; but one that came has been answered, and asking again for a form is `retries`' business.
    GenerationError: True,
    IncompleteOutputError: False,
    OutputValidationError: False,
    # The member was too slow; where the caller's own time is up, nobody is asked any more.
    RequestTimeoutError: True,
    # This machine has not enough memory, or too many who wait; another one may.
    MemoryLimitError: True,
    QueueFullError: True,
}
"""Whether another backend could cure an error, for each class; one that is not here is as the class that it is of."""

_WRONG_REQUEST = frozenset({400, 422})
"""Statuses with which a service says that the request is wrong, without saying that it is about its own limits."""


def curable(error: AbstractLLMError) -> bool:
    """Return whether another backend could answer where one failed with this error."""
    if type(error) is ProviderAPIError and error.status_code in _WRONG_REQUEST:
        return False
    return next((CURABLE[kind] for kind in type(error).__mro__ if kind in CURABLE), False)


@dataclass(frozen=True, slots=True)
class Member:
    """One of several backends: its `name` for messages, and `llm`, or the `error` for which there is none."""

    name: str
    llm: AbstractLLMInterface | None
    error: AbstractLLMError | None = None

    def check(self) -> AbstractLLMInterface:
        """Return the backend, or raise the error for which there is none."""
        if self.llm is not None:
            return self.llm
        assert self.error is not None
        raise self.error.with_traceback(None)


Failure = tuple[Member, AbstractLLMError]


class FallbackLLM(BaseProvider):
    """Asks its `members` in order, each time anew, until one begins to answer; what fails after that is raised.

    The next one is asked where `CURABLE` says so. If the last one that is asked fails as well, its error is raised: as
    it is if it was the only one, else with a message that names all, and with the errors before it as `exceptions`.
    `response.provider_data["fallback"]` says who answered. There is at least one member.

    `timeout` in a call holds for all members together, but `connect` and `first_event` for each by itself; a member's
    own `timeout` ends that member's try. Parameters of the call and those of `set_config` go to whoever is asked and
    beat what that one is configured with, unless they ask for nothing, such as `n=1`. Members try again by themselves
    before they fail, as their `max_retries` says. There are no embeddings, as vectors of different models do not mix.
    """

    name: ClassVar[str] = "fallback"
    parameters: ClassVar[frozenset[str]] = frozenset(CHECKS) - {"options"}
    settings: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, members: Sequence[Member], config: Mapping[str, Any] | None = None) -> None:
        self.members = tuple(members)
        self.parameters = frozenset().union(*map(_carried_out, members))  # type: ignore[misc] # differs with the members
        super().__init__({name: value for name, value in (config or {}).items() if name in _SHARED})

    def get_capabilities(self) -> Capabilities:
        """Return what any member can do, None where none says yes and one does not know; counts are the largest.

        Members whose model is not there are left out; raises their errors if there are no others.
        """
        found, failures = [], []
        for member in self.members:
            try:
                found.append(member.check().get_capabilities())
            except AbstractLLMError as error:
                _check_curable(error)
                failures.append((member, error))
        if not found:
            raise told(failures)
        return {name: _widest([one.get(name) for one in found]) for name in ModelCapability}

    def count_tokens(self, messages: str | Sequence[MessageLike], tools: Sequence[ToolLike] | None = None) -> int:
        """Return how many tokens a prompt is for the first member that is there; others may count otherwise."""
        return self._present[0].count_tokens(messages, tools)

    def load(self) -> None:
        """Load the first member that can be loaded."""
        failures = []
        for member in self.members:
            try:
                return member.check().load()
            except AbstractLLMError as error:
                _check_curable(error)
                failures.append((member, error))
        raise told(failures)

    def unload(self) -> None:
        """Give back what any member has loaded."""
        for llm in self._present:
            llm.unload()

    def close(self) -> None:
        """End what still runs and close all members. Safe to call twice."""
        with ExitStack() as stack:
            for llm in self._present:
                stack.callback(llm.close)
            super().close()

    def missing(self) -> str | None:
        """Return what all members lack, such as keys; None where one is ready."""
        found = [_lacks(member) for member in self.members]
        return None if None in found else " ".join(filter(None, found))

    @property
    def _present(self) -> list[AbstractLLMInterface]:
        return [member.llm for member in self.members if member.llm is not None]

    def _refuse(self, request: GenerateRequest) -> None:
        """Raise unless there is a member that would take the request; those after it are not asked."""
        failures: list[Failure] = []
        for member in self.members:
            try:
                with closing(_asked(member.check(), request, request.timeout)):
                    return
            except AbstractLLMError as error:
                _check_curable(error)
                failures.append((member, error))
        raise told(failures)

    async def _astream(self, request: GenerateRequest, call: Call) -> AsyncGenerator[GenerateResponse, None]:
        call.first_event()  # each member keeps that limit
        failures: list[Failure] = []
        for number, member in enumerate(self.members):
            async with aclosing(_answer(member, request, call)) as deltas:
                first = await _first(deltas, member, failures)
                if first is not None:
                    yield _signed(first, {"member": number, "name": member.name})
                    async for delta in deltas:
                        yield delta
                    return
            self._check_going_on(failures, call)

    def _check_going_on(self, failures: Sequence[Failure], call: Call) -> None:
        """Raise the error of a request that nobody can answer any more."""
        member, error = failures[-1]
        if len(failures) < len(self.members) and curable(error) and not call.cancelled and not _is_over(call):
            logger.warning("%s did not answer, so the next backend is asked: %s", member.name, error.message)
            return
        failure = told(failures)
        raise failure from (error.__cause__ if failure is error else error)


_SHARED = frozenset(CHECKS) - {"options", "timeout"} | {"system_prompt"}
"""Parameters that are a fallback's own as well as its members'; a `timeout` of the members is for each by itself."""


async def _first(
    deltas: AsyncGenerator[GenerateResponse, None], member: Member, failures: list[Failure]
) -> GenerateResponse | None:
    """Return the first delta; where there is none, add to the failures why, and return None."""
    try:
        return await anext(deltas)
    except StopAsyncIteration:
        failures.append((member, GenerationError("The answer was empty, without so much as a finish_reason.")))
    except AbstractLLMError as error:
        failures.append((member, error))
    return None


async def _answer(member: Member, request: GenerateRequest, call: Call) -> AsyncGenerator[GenerateResponse, None]:
    """Yield the deltas of one member's answer, one where it is not streamed."""
    llm = member.check()
    asked: Any = _asked(llm, request, _limits(llm, call))
    if not request.stream:
        yield await asked
        return
    if isinstance(asked, AsyncResponseStream):
        call.in_line(lambda: asked.queue_position)
    stream = await asked
    try:
        async for delta in stream:
            yield delta
    finally:
        close = getattr(stream, "aclose", None)  # a plugin may return any async iterator
        if close is not None:
            await close()


def _asked(llm: AbstractLLMInterface, request: GenerateRequest, timeout: Timeout | None) -> Coroutine[Any, Any, Any]:
    """Return the call of a backend, checked and not begun."""
    return llm.generate_async(
        messages=list(request.messages),
        stream=request.stream,
        tools=request.tools or None,
        timeout=timeout,
        **dict(_given(request)),
    )


def _given(request: GenerateRequest) -> Iterator[tuple[str, Any]]:
    """Yield the parameters that ask for something."""
    for field in fields(request):
        if field.name not in ("messages", "tools", "stream", "timeout", "model"):
            default = {} if field.default is MISSING else field.default
            if (value := getattr(request, field.name)) != default:
                yield field.name, value


def _limits(llm: AbstractLLMInterface, call: Call) -> Timeout | None:
    """Return what is left of the caller's limits, or the member's own where they are tighter; None for its own."""
    if call.timeout == Timeout():
        return None
    given, own = replace(call.timeout, total=call.remaining()), llm.get_param("timeout")
    if own is None:
        return given
    pairs = {name: (getattr(given, name), getattr(_normal(own), name)) for name in Timeout.__slots__}
    return Timeout(
        **{name: min((one for one in pair if one is not None), default=None) for name, pair in pairs.items()}
    )


def _normal(timeout: object) -> Timeout:
    found: Timeout = CHECKS["timeout"]("timeout", timeout)
    return found


def _is_over(call: Call) -> bool:
    return call.deadline is not None and time.monotonic() >= call.deadline


def _signed(delta: GenerateResponse, who: Mapping[str, Any]) -> GenerateResponse:
    """Return a delta that says who answered; of several answers at once, the first says it."""
    choices = tuple(_signed(one, who) if number == 0 else one for number, one in enumerate(delta.choices))
    return replace(delta, choices=choices, provider_data={**(delta.provider_data or {}), KEY: who})


def _check_curable(error: AbstractLLMError) -> None:
    """Raise an error that no other member could cure."""
    if not curable(error):
        raise error


def told(failures: Sequence[Failure]) -> AbstractLLMError:
    """Return the last error, telling of all; it is that error itself where there are no others."""
    *before, (_, last) = failures
    if not before:
        return last
    lines = "".join(f"\n- {member.name}: {type(error).__name__}: {error.message}" for member, error in failures)
    found = copy(last)
    found.message, found.provider = f"No backend answered; those that were asked:{lines}", FallbackLLM.name
    found.args = (found.message, *found.args[1:])
    found.exceptions = tuple(error for _, error in before)
    return found


def _widest(values: list[bool | int | None]) -> bool | int | None:
    """Return yes if any says yes, else None if any does not know, else the largest."""
    if any(value is True for value in values):
        return True
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def _carried_out(member: Member) -> frozenset[str]:
    """Return the parameters that a member may carry out; those of a plugin are not known."""
    if member.llm is None:
        return frozenset()
    return member.llm.parameters if isinstance(member.llm, BaseProvider) else FallbackLLM.parameters


def _lacks(member: Member) -> str | None:
    if member.error is not None:
        return member.error.message
    return member.llm.missing() if isinstance(member.llm, BaseProvider) else None
