"""The agent: a model, tools and rules, immutable and without a history, from which runs are made."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, Literal, Self, overload

from typing_extensions import TypeVar

from abstractllm.agent.asked import Asked
from abstractllm.agent.checking import check_llm, check_parts, checked_observers
from abstractllm.agent.events import AgentObserver
from abstractllm.agent.limits import Limits
from abstractllm.agent.plan import Approver, Instructions, Plan, Trim
from abstractllm.agent.reply import Reply
from abstractllm.agent.result import O, Result
from abstractllm.agent.run import Occasion, Run
from abstractllm.errors import InvalidParameterError, shown
from abstractllm.factory import create_llm
from abstractllm.interface import AbstractLLMInterface, File, MessageLike, ToolLike
from abstractllm.parameters import check_parameters
from abstractllm.portal import portal
from abstractllm.schema import to_output_format
from abstractllm.tools import Tool

D = TypeVar("D", default=Any)

_OWN = {
    "tool_choice": "tool_choice of run",
    "response_format": "output of Agent",
    "retries": "retries of Agent",
    "n": "run, which has one answer",
    "stream": "Agent.stream",
    "messages": "messages of run",
    "system_prompt": "instructions of Agent",
}
"""Parameters of `generate` that an agent sets itself, and what to use instead."""


class Agent(Generic[D, O]):
    """A model with tools, which calls them until it has its answer.

    Immutable, and without a history: one agent serves any number of runs at once, from any thread and event loop. `D`
    is the type of the `deps` that its tools get, `O` that of its output.
    """

    @overload
    def __init__(
        self,
        llm: AbstractLLMInterface | str,
        *,
        tools: Iterable[ToolLike] = ...,
        instructions: Instructions | None = ...,
        output: type[O] = ...,
        name: str = ...,
        retries: int = ...,
        limits: Limits | None = ...,
        tool_timeout: float | None = ...,
        on_tool_error: Literal["feed", "raise"] = ...,
        approve: Approver | None = ...,
        trim: Trim | None = ...,
        observers: Iterable[AgentObserver] = ...,
        **params: Any,
    ) -> None: ...

    @overload
    def __init__(
        self: Agent[D, Any],
        llm: AbstractLLMInterface | str,
        *,
        tools: Iterable[ToolLike] = ...,
        instructions: Instructions | None = ...,
        output: object,
        name: str = ...,
        retries: int = ...,
        limits: Limits | None = ...,
        tool_timeout: float | None = ...,
        on_tool_error: Literal["feed", "raise"] = ...,
        approve: Approver | None = ...,
        trim: Trim | None = ...,
        observers: Iterable[AgentObserver] = ...,
        **params: Any,
    ) -> None: ...

    def __init__(
        self,
        llm: AbstractLLMInterface | str,
        *,
        tools: Iterable[ToolLike] = (),
        instructions: Instructions | None = None,
        output: object = str,
        name: str = "agent",
        retries: int = 1,
        limits: Limits | None = None,
        tool_timeout: float | None = 60.0,
        on_tool_error: Literal["feed", "raise"] = "feed",
        approve: Approver | None = None,
        trim: Trim | None = None,
        observers: Iterable[AgentObserver] = (),
        **params: Any,
    ) -> None:
        """Put an agent together.

        `llm` is a model or a config string for `create_llm`; a model made here is closed with the agent. `tools` are
        those of `abstractllm.tools.Tool.of`. `instructions` is the system prompt, or a function, sync or async, that
        makes it of a run's `deps`. `output` is what the last answer shall be: `str`, or whatever a `response_format`
        may be; an answer that does not fit is asked for again at most `retries` times. With tools the model answers
        freely first; where that does not have the form, it is asked for in the form alone, which is no retry yet.

        `tool_timeout` is how many seconds a tool may take that does not say so itself. What a tool raises, and calls
        that cannot be made, are told the model, or end the run with ToolError with `on_tool_error="raise"`; a
        ToolRetry, and a call that is denied, are told the model in any case. `approve` decides about calls of tools
        that need `approval`; without it the run stops there.

        `trim` is how many tokens a prompt may have, or a function from the history to what the model is shown of it;
        the history itself stays whole. `observers` are told of everything. `params` go with each request, such as
        `temperature`.

        Raises InvalidParameterError for what cannot be right.
        """
        check_parts(llm, name, limits, approve)
        self._owned = isinstance(llm, str)
        offered = _tools(tools)
        model = create_llm(llm) if isinstance(llm, str) else llm
        self._plan = Plan(
            llm=model,
            name=name,
            tools=offered,
            definitions=tuple(tool.definition for tool in offered.values()),
            instructions=_checked_instructions(instructions),
            form=None if output is str else to_output_format(output),
            retries=_checked_retries(retries),
            limits=limits or Limits(),
            tool_timeout=_checked_timeout(tool_timeout),
            raise_tool_errors=_raises(on_tool_error),
            approve=approve,
            trim=_checked_trim(trim, model),
            observers=checked_observers(observers),
            params=_checked_params(params),
        )

    @property
    def llm(self) -> AbstractLLMInterface:
        """The model."""
        return self._plan.llm

    @property
    def name(self) -> str:
        """What observers know it by."""
        return self._plan.name

    @property
    def instructions(self) -> Instructions | None:
        """Its system prompt, or what makes one."""
        return self._plan.instructions

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Its tools."""
        return tuple(self._plan.tools.values())

    def run(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[MessageLike] = (),
        deps: D | None = None,
        files: Sequence[File] = (),
        tool_choice: str | None = None,
        approvals: Mapping[str, bool | str] | None = None,
    ) -> Result[O]:
        """Run to the end and return the result; the calling thread waits.

        `messages` is the conversation before `prompt`, such as the `messages` of an earlier result. `deps` is what
        tools find in their context. `files` attach to the prompt. `tool_choice` holds for the first answer.

        A conversation that ends in calls without results goes on with them when there is no prompt; `approvals` says by
        call id of those that wait for approval whether they may be made: True, False, or why not. With a prompt, they
        get results that say that they were not made, and there is nothing to approve.

        Raises InvalidParameterError, at the call, for what cannot be right, and what the model, a tool or a limit
        raises where that is to end the run.
        """
        occasion = Asked(prompt, messages, deps, files, tool_choice, approvals)
        return portal().run(lambda: Run[O](self._plan, occasion, occasion.task).here())

    async def arun(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[MessageLike] = (),
        deps: D | None = None,
        files: Sequence[File] = (),
        tool_choice: str | None = None,
        approvals: Mapping[str, bool | str] | None = None,
    ) -> Result[O]:
        """Do what `run` does, without blocking the event loop. Cancelling it cancels the run."""
        occasion = Asked(prompt, messages, deps, files, tool_choice, approvals)
        return await Run[O](self._plan, occasion, occasion.task).here()

    def stream(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[MessageLike] = (),
        deps: D | None = None,
        files: Sequence[File] = (),
        tool_choice: str | None = None,
        approvals: Mapping[str, bool | str] | None = None,
    ) -> Run[O]:
        """Return a run to be read while it goes on, sync or async; the arguments are those of `run`."""
        occasion = Asked(prompt, messages, deps, files, tool_choice, approvals)
        return Run(self._plan, occasion, occasion.task)

    def chat(
        self,
        prompt: str,
        *,
        messages: Sequence[MessageLike] = (),
        deps: D | None = None,
        files: Sequence[File] = (),
    ) -> Reply:
        """Return a reply: `await` it for its text, `async for` it for the text as it is written.

        The agent remembers nothing of it; a `Session` does.
        """
        occasion = Asked(prompt, messages, deps, files, None, None)
        return Reply(Run(self._plan, occasion, occasion.task))

    def run_on(self, occasion: Occasion) -> Run[O]:
        """Return a run whose task comes from elsewhere, such as from a conversation."""
        return Run(self._plan, occasion)

    def with_llm(self, llm: AbstractLLMInterface | str) -> Agent[D, O]:
        """Return the same agent with another model. Raises InvalidParameterError for one that cannot do its `trim`."""
        check_llm(llm)
        agent: Agent[D, O] = copy.copy(self)
        agent._owned = isinstance(llm, str)
        model = create_llm(llm) if isinstance(llm, str) else llm
        agent._plan = replace(self._plan, llm=model, trim=_checked_trim(self._plan.trim, model))
        return agent

    def close(self) -> None:
        """Close the model if it was made here."""
        if self._owned:
            self._plan.llm.close()

    async def aclose(self) -> None:
        """Do what `close` does, without blocking the event loop."""
        if self._owned:
            await self._plan.llm.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _tools(tools: Iterable[ToolLike]) -> dict[str, Tool]:
    if isinstance(tools, (str, Mapping, Tool)) or callable(tools) or not isinstance(tools, Iterable):
        raise InvalidParameterError("tools", "tools is a single one; pass a list of tools: tools=[...].")
    offered: dict[str, Tool] = {}
    for one in tools:
        made = Tool.of(one)
        if made.name in offered:
            raise InvalidParameterError("tools", f"Two tools are named {made.name!r}; give each a name of its own.")
        offered[made.name] = made
    return offered


def _checked_instructions(given: Instructions | None) -> Instructions | None:
    if given is None or isinstance(given, str) or callable(given):
        return given
    raise _bad("instructions", given, "a string, or a function of the deps that returns one")


def _checked_retries(given: object) -> int:
    if isinstance(given, int) and not isinstance(given, bool) and given >= 0:
        return given
    raise _bad("retries", given, "a whole number, at least 0")


def _checked_timeout(given: object) -> float | None:
    if given is None or (isinstance(given, (int, float)) and not isinstance(given, bool) and given > 0):
        return given
    raise _bad("tool_timeout", given, "a number of seconds greater than 0, or None")


def _raises(given: object) -> bool:
    if given in ("feed", "raise"):
        return given == "raise"
    raise _bad("on_tool_error", given, "'feed' or 'raise'")


def _checked_trim(given: Trim | None, llm: AbstractLLMInterface) -> Trim | None:
    if given is None or callable(given):
        return given
    if not isinstance(given, int) or isinstance(given, bool) or given <= 0:
        raise _bad("trim", given, "a number of tokens greater than 0, or a function of the messages")
    if type(llm).count_tokens is AbstractLLMInterface.count_tokens:
        raise InvalidParameterError(
            "trim",
            f"{type(llm).__name__} cannot count tokens, so no prompt can be kept to {given} of them; pass"
            " trim=function, which returns those of the messages that the model is shown.",
        )
    return given


def _checked_params(params: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in params:
        if name in _OWN:
            raise InvalidParameterError(name, f"An agent sets {name!r} itself; see {_OWN[name]}.")
    return check_parameters(params)


def _bad(name: str, value: object, expected: str) -> InvalidParameterError:
    return InvalidParameterError(name, f"{name}={shown(value)} is not valid: it must be {expected}.")
