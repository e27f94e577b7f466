"""The loop of a run: the model's answer, its calls, their results, the next answer. Knows no reader of the run."""

from __future__ import annotations

import asyncio
import inspect
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from abstractllm.accumulator import added
from abstractllm.agent.asking import Asking
from abstractllm.agent.events import Event, ToolFinished, ToolOutcome, TurnFinished
from abstractllm.agent.execution import Ends, Executor, Prepared, Situation, refused
from abstractllm.agent.plan import Plan, Task
from abstractllm.agent.result import Result, Stop
from abstractllm.errors import InvalidParameterError, OutputValidationError, RunLimitError, shown
from abstractllm.history import in_order, unanswered
from abstractllm.types import GenerateResponse, Message, ToolCall, Usage

_IN_FORM = "Please give the whole answer once more, in the right form."
"""Small models take values from what they were told last, so that there is nothing in here to take.

After this sentence the model that ships had the right values in 13 of 14 answers; after others of the same meaning, in
as few as 1.
"""


class Turns:
    """One run's state. `run` takes turns until there is a reason to stop; `result` may be asked for at any time.

    `tell` is told of every event. Without `stream` the model's answers are asked for whole, but where the run has a
    limit of seconds, at which what had arrived shall stay.
    """

    def __init__(self, plan: Plan, task: Task, run_id: str, tell: Callable[[Event], None], *, stream: bool) -> None:
        self._plan = plan
        self._task = task
        self._run_id = run_id
        self._tell = tell
        self._asking = Asking(plan, task.deps, tell, stream=stream or plan.limits.seconds is not None)
        self._executor = Executor(
            plan.tools,
            timeout=plan.tool_timeout,
            parallel=plan.limits.parallel,
            raise_errors=plan.raise_tool_errors,
            tell=tell,
        )
        self._messages = list(task.messages)
        self._known = {id(one) for one in task.messages[: len(task.messages) - task.new]}
        self._ids = {call.id for message in task.messages for call in message.tool_calls}
        self._texts: list[str] = []
        self._usage = Usage()
        self._turns = 0
        self._calls = 0
        self._calls_refused = False
        self._attempts_left = plan.retries
        self._formed_only = False  # the answer has had no form so far: now it is asked for that alone
        self._output: Any = None
        self._pending: tuple[ToolCall, ...] = ()
        self.stop: Stop | None = None
        self.stop_after_turn = False

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, each call with its result but those that run and those that wait for approval."""
        return tuple(self._messages)

    async def run(self) -> Result[Any]:
        """Take turns to the end and return the result.

        Raises RunLimitError where a limit is to be an error, and what the model or a tool raises that is not for the
        model to read. However it ends, every call in the history has one result then.
        """
        scope = asyncio.timeout(self._plan.limits.seconds)
        try:
            async with scope:
                await self._take_turns()
        except TimeoutError:
            if not scope.expired():
                raise
            self._reach_limit(f"{self._plan.limits.seconds:g} seconds")
        return self.result()

    async def _take_turns(self) -> None:
        open_calls = unanswered(self._messages)
        if open_calls:
            await self._act(open_calls)
            self._stop_if_asked()
        while self.stop is None:
            await self._turn()
            self._stop_if_asked()

    def _stop_if_asked(self) -> None:
        if self.stop is None and self.stop_after_turn:
            self.stop = "cancelled"

    async def _turn(self) -> None:
        limit = self._limit_reached()
        if limit is not None:
            await self._last_answer(limit)
            return
        try:
            response = await self._answer(tools=not self._formed_only)
        except OutputValidationError as error:
            self._ask_again(error)
            return
        if response.tool_calls:
            await self._act(response.tool_calls)
        else:
            self._end(response)
        self._tell(TurnFinished(self._turns, response))

    async def _answer(self, *, tools: bool) -> GenerateResponse:
        """Ask the model and take its answer into the history, also where it raises OutputValidationError for it."""
        form = self._plan.form if self._formed_only or not self._plan.tools or not tools else None
        choice = self._task.tool_choice if self._turns == 0 else None
        try:
            response = await self._asking.ask(self._messages, tools=tools, form=form, tool_choice=choice)
        except OutputValidationError as error:
            if error.response is not None:
                response = self._take(replace(error.response, tool_calls=()))
                self._tell(TurnFinished(self._turns, response))
            raise
        finally:
            if self._asking.partial is not None:
                self._take(self._asking.partial)
        return self._take(response)

    def _take(self, response: GenerateResponse) -> GenerateResponse:
        """Put an answer into the history, its calls with ids that are their own."""
        calls = tuple(self._with_id(call) for call in response.tool_calls)
        if calls != response.tool_calls:
            response = replace(response, tool_calls=calls)
        self._turns += 1
        if response.usage is not None:
            self._usage = added(self._usage, response.usage)
        if response.content:
            self._texts.append(response.content)
        if response.content or response.tool_calls or response.reasoning or response.finish_reason:
            self._messages.append(response.to_message())
        return response

    def _with_id(self, call: ToolCall) -> ToolCall:
        if not call.id or call.id in self._ids:
            call = replace(call, id=f"call_{uuid.uuid4().hex[:16]}")
        self._ids.add(call.id)
        return call

    # Answers with a form.

    def _end(self, response: GenerateResponse) -> None:
        """Take an answer without calls for the last one, where it has its form."""
        form = self._plan.form
        if form is None:
            self._output = response.content
        elif response.parsed is not None:
            self._output = response.parsed
        else:
            try:
                self._output = form.parse(response.content)
            except OutputValidationError as error:
                self._ask_for_form(OutputValidationError(error.message, response=response, provider=error.provider))
                return
        self.stop = "end"

    def _ask_for_form(self, error: OutputValidationError) -> None:
        """Have the next answer be nothing but the form; one that could also have been calls was no try at it."""
        if self._formed_only or not self._plan.tools:
            self._ask_again(error)
            return
        self._formed_only = True
        self._messages.append(Message("user", _IN_FORM))

    def _ask_again(self, error: OutputValidationError) -> None:
        """Ask for the form once more, or raise the error where there shall be no other try."""
        if error.response is None or not self._attempts_left:
            raise error
        self._attempts_left -= 1
        self._formed_only = True
        self._messages.append(Message("user", f"{_problem(error)}\n{_IN_FORM}"))

    # Calls.

    async def _act(self, calls: Sequence[ToolCall]) -> None:
        """Make the calls of a turn and put one result for each into the history, but for those that wait for approval.

        Whatever ends this, the results of all calls are in the history then.
        """
        ends = Ends(calls)
        waiting: list[int] = []
        can_wait = False
        try:
            ready = await self._ready(calls, ends, waiting)
            situation = Situation(self._task.deps, tuple(self._messages), self._usage)
            await self._executor.run(ready, ends, situation)
            can_wait = ends.stop is None
        finally:
            self._put_results(ends, waiting if can_wait else ())
        if ends.stop is not None:
            self.stop, self._output = "stopped", ends.stop.value
        elif waiting:
            self.stop, self._pending = "approval", tuple(calls[number] for number in waiting)

    async def _ready(self, calls: Sequence[ToolCall], ends: Ends, waiting: list[int]) -> dict[int, Prepared]:
        """Return the calls that are to be made now; refuse others, and note which wait for approval."""
        ready: dict[int, Prepared] = {}
        for number, call in enumerate(calls):
            found = self._executor.prepare(call)
            if isinstance(found, Prepared) and not self._has_calls_left(len(ready)):
                self._calls_refused = True
                found = refused("denied", "No more tool calls may be made; answer with what you know.")
            if isinstance(found, Prepared):
                decision = await self._decision(found)
                if decision is None:
                    waiting.append(number)
                    continue
                found = found if decision is True else _denied(decision)
            if isinstance(found, Prepared):
                ready[number] = found
            else:
                ends.outcomes[number] = found
                self._tell(ToolFinished(call, found))
                self._executor.check(call, found)
        self._calls += len(ready)
        return ready

    def _has_calls_left(self, more: int) -> bool:
        most = self._plan.limits.tool_calls
        return most is None or self._calls + more < most

    async def _decision(self, prepared: Prepared) -> bool | str | None:
        """Return whether a call may be made: True, False, why not, or None where a person has yet to say."""
        approval, call = prepared.tool.approval, prepared.call
        if approval is False or (callable(approval) and not await _awaited(approval(call))):
            return True
        given: Mapping[str, bool | str] = self._task.approvals or {}
        if call.id in given:
            return given[call.id]
        if self._plan.approve is None:
            return None
        decided: object = await _awaited(self._plan.approve(call))
        if isinstance(decided, (bool, str)):
            return decided
        what = f"approve returned {shown(decided)} for a call of {call.name!r}"
        raise InvalidParameterError("approve", f"{what}; it must return True, False or why not.")

    def _put_results(self, ends: Ends, waiting: Sequence[int]) -> None:
        """Put the results into the history, in the order of the turn's calls with those that were there before."""
        for number, (call, outcome) in enumerate(zip(ends.calls, ends.all(), strict=True)):
            if number not in waiting:
                self._messages.append(Message("tool", outcome.content, name=call.name, tool_call_id=call.id))
        if self._turns == 0:  # of the calls that an earlier run has left some may have results
            self._messages = list(in_order(self._messages))

    # Limits.

    def _limit_reached(self) -> str | None:
        """Return which limit does not allow another turn with tools."""
        limits = self._plan.limits
        if limits.turns is not None and self._turns >= limits.turns:
            return f"{limits.turns} turns"
        if self._calls_refused:
            return f"{limits.tool_calls} tool calls"
        if limits.tokens is not None and self._usage.total_tokens >= limits.tokens:
            return f"{limits.tokens} tokens"
        return None

    async def _last_answer(self, limit: str) -> None:
        """End at a limit: with one more answer, without tools, where that is asked for and would not break it."""
        self._reach_limit(limit)
        if self._plan.limits.tokens is not None and self._usage.total_tokens >= self._plan.limits.tokens:
            return
        try:
            response = await self._answer(tools=False)
        except OutputValidationError:  # the limit allows no other answer
            return
        unmade = Ends(response.tool_calls)
        self._put_results(unmade, ())
        if self._plan.form is not None:
            self._output = response.parsed
        self._tell(TurnFinished(self._turns, response))

    def _reach_limit(self, limit: str) -> None:
        self.stop = "limit"
        if self._plan.limits.on_limit == "raise":
            raise RunLimitError(f"The run used up its limit of {limit}; raise it in Limits.", result=self.result())

    def result(self, stop: Stop | None = None) -> Result[Any]:
        """Return what the run has come to by now."""
        return Result(
            output=self._last_said() if self._output is None and self._plan.form is None else self._output,
            text="\n\n".join(self._texts),
            messages=tuple(self._messages),
            new_messages=tuple(one for one in self._messages if id(one) not in self._known),
            usage=self._usage,
            turns=self._turns,
            stop=stop or self.stop or "cancelled",
            pending=self._pending,
            run_id=self._run_id,
        )

    def _last_said(self) -> str:
        """Return the output of a run whose output is text and that had no answer without calls."""
        return self._texts[-1] if self._texts and self.stop != "stopped" else ""


def _problem(error: OutputValidationError) -> str:
    """Return what is wrong with an answer: what does not fit, but no parser's words about what is no JSON."""
    try:
        json.loads("" if error.response is None else error.response.content)
    except (ValueError, RecursionError):
        return "The answer is no JSON."
    return error.message


def _denied(reason: bool | str) -> ToolOutcome:
    said = f": {reason}" if isinstance(reason, str) and reason else "."
    return refused("denied", f"A person did not allow this call{said}")


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
