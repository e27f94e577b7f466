"""The rules of a history: where its turns begin, that each call has its result, and what may go when it is too long.

Pure: knows no model and no provider. How many tokens messages have is asked of a function.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from abstractllm.errors import InvalidParameterError
from abstractllm.types import Message, ToolCall

NOT_EXECUTED = "Not executed: the conversation went on before this call had a result."
"""What stands as the result of a call that has none."""


def unanswered(messages: Sequence[Message]) -> tuple[ToolCall, ...]:
    """Return the calls of the last assistant turn that have no result yet; none where a user turn came after it."""
    for number in reversed(range(len(messages))):
        if messages[number].role == "user":
            return ()
        if messages[number].role == "assistant":
            calls = messages[number].tool_calls
            results = _Results(messages).of.get(number, [])
            return tuple(call for call, result in zip(calls, results, strict=True) if result is None)
    return ()


def paired(messages: Iterable[Message], *, not_executed: str = NOT_EXECUTED) -> tuple[Message, ...]:
    """Return the history with exactly one result for each call, directly after its turn, in the order of the calls.

    A result belongs to the nearest turn before it that has a call of its id; one without an id belongs to the first
    open call, of its name where it has one, in the last turn with calls. A call without a result gets one that says
    `not_executed`; results of no call, and second ones, are left out. Ids of calls become unique in the whole history,
    as services ask: the first call of an id keeps it. So what was paired stays as it is when a history grows, and what
    is in order already comes back as the same objects.
    """
    history = tuple(messages)
    results = _Results(history).of
    taken: set[str] = set()
    repaired: list[Message] = []
    for number, message in enumerate(history):
        if number in results:
            repaired += _answered(message, results[number], taken, not_executed)
        elif message.role != "tool":
            repaired.append(message)
    return tuple(repaired)


def resumable(messages: Iterable[Message]) -> tuple[Message, ...]:
    """Return the history `paired`, but for the calls that are `unanswered`: they stay without results."""
    history = tuple(messages)
    last = next((n for n in reversed(range(len(history))) if history[n].role == "assistant"), -1)
    results = _Results(history).of.get(last, [])
    whole = paired(history)
    if None not in results or not unanswered(history):
        return whole
    start = next(n for n in reversed(range(len(whole))) if whole[n].role == "assistant") + 1
    answered = [one for one, result in zip(whole[start:], results, strict=False) if result is not None]
    return (*whole[:start], *answered, *whole[start + len(results) :])


def in_order(messages: Sequence[Message]) -> Sequence[Message]:
    """Return a history whose last turn has its results in the order of its calls, and nothing else after it."""
    last = next((n for n in reversed(range(len(messages))) if messages[n].role == "assistant"), -1)
    places = {call.id: place for place, call in enumerate(messages[last].tool_calls)}
    results = sorted(messages[last + 1 :], key=lambda one: places.get(one.tool_call_id or "", len(places)))
    return [*messages[: last + 1], *results]


class _Results:
    """Which result is whose: `of` has, by the number of a turn with calls, the result of each call or None."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.of: dict[int, list[Message | None]] = {}
        self._messages = messages
        self._last = -1
        self._open: dict[str, list[tuple[int, int]]] = {}  # by id: turns and places of calls without a result
        for number, message in enumerate(messages):
            if message.role == "assistant" and message.tool_calls:
                self._add_calls(number, message.tool_calls)
            elif message.role == "tool":
                self._add_result(message)

    def _add_calls(self, number: int, calls: tuple[ToolCall, ...]) -> None:
        self.of[number] = [None] * len(calls)
        self._last = number
        self._open |= {call.id: [] for call in calls}
        for place, call in enumerate(calls):
            self._open[call.id].append((number, place))

    def _add_result(self, result: Message) -> None:
        waiting = self._open.get(result.tool_call_id, []) if result.tool_call_id else list(self._fitting(result.name))
        if not waiting:
            return
        number, place = waiting[0]
        self._open[self._messages[number].tool_calls[place].id].remove((number, place))
        self.of[number][place] = result

    def _fitting(self, name: str | None) -> Iterator[tuple[int, int]]:
        """Yield the open calls of the last turn, of a name where one is given."""
        for place, result in enumerate(self.of.get(self._last, [])):
            if result is None and name in (None, self._messages[self._last].tool_calls[place].name):
                yield self._last, place


def _answered(turn: Message, results: list[Message | None], taken: set[str], not_executed: str) -> Iterator[Message]:
    """Yield a turn with calls and its results, with ids that are not `taken`, where they are put."""
    ids = [_free(call.id, taken) for call in turn.tool_calls]
    named = zip(turn.tool_calls, ids, strict=True)
    calls = tuple(call if call.id == name else replace(call, id=name) for call, name in named)
    yield turn if calls == turn.tool_calls else replace(turn, tool_calls=calls)
    for call, result in zip(calls, results, strict=True):
        if result is None:
            yield Message("tool", not_executed, name=call.name or None, tool_call_id=call.id)
        else:
            yield result if result.tool_call_id == call.id else replace(result, tool_call_id=call.id)


def _free(name: str, taken: set[str]) -> str:
    """Return an id that is not taken yet, the given one if it can be, and take it."""
    numbered = (f"{name}_{number}" if name else f"call_{number - 1}" for number in itertools.count(2))
    found = next(one for one in itertools.chain([name] if name else [], numbered) if one not in taken)
    taken.add(found)
    return found


def with_call_ids(messages: Sequence[Message], form: str) -> Sequence[Message]:
    """Return the history with ids of calls that a regular expression matches as a whole; the same where all are.

    Another id becomes the beginning of its digest, the same one each time, which is 9 letters and digits. Services do
    not take the ids of all others: Mistral wants 9 letters and digits, Anthropic letters, digits, "_" and "-".
    """
    if all(re.fullmatch(form, one) for message in messages for one in _ids(message)):
        return messages
    return tuple(_with_ids(message, form) for message in messages)


def _ids(message: Message) -> Iterator[str]:
    ids = (*(call.id for call in message.tool_calls), message.tool_call_id)
    return (one for one in ids if one)


def _with_ids(message: Message, form: str) -> Message:
    fitting = {one: _fitting_id(one, form) for one in _ids(message)}
    if all(one == new for one, new in fitting.items()):
        return message
    calls = tuple(replace(call, id=fitting.get(call.id, "")) for call in message.tool_calls)
    return replace(message, tool_calls=calls, tool_call_id=fitting.get(message.tool_call_id or ""))


def _fitting_id(given: str, form: str) -> str:
    if re.fullmatch(form, given):
        return given
    return hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:9]


def turns(messages: Iterable[Message]) -> tuple[tuple[Message, ...], tuple[tuple[Message, ...], ...]]:
    """Return the system messages at the beginning, and the turns: each a user's message with all until the next one.

    Only the first turn can begin with another message, where the history does. Joined they are `messages`.
    """
    history = tuple(messages)
    first = next((number for number, one in enumerate(history) if one.role != "system"), len(history))
    starts = [number for number, one in enumerate(history) if one.role == "user" or number == first]
    bounds = itertools.pairwise([*starts, len(history)])
    return history[:first], tuple(history[start:end] for start, end in bounds)


def trimmed(
    messages: Iterable[Message], max_tokens: int, count: Callable[[Sequence[Message]], int]
) -> tuple[Message, ...]:
    """Return the newest whole turns of the history, which is `paired` before, that have at most `max_tokens` tokens.

    All system messages stay, and so does the last turn. Where that alone is too long, the oldest assistant messages
    in it go, each with its results; the user's message and the last assistant message with its results stay, even if
    they have more tokens than there may be. `count` returns the tokens of messages, more for more of them; it is
    called once where all fit, else about as often as the number of turns can be halved.
    """
    if max_tokens < 1:
        raise InvalidParameterError("max_tokens", f"max_tokens is {max_tokens}; it must be at least 1.")
    history = paired(messages)
    blocks = _blocks(history)
    if not blocks or count(history) <= max_tokens:
        return history
    cuts = range(1, len(blocks) - 1)  # the last one is taken where none before it fits
    number = bisect_left(cuts, True, key=lambda cut: count(_without(history, blocks[cut])) <= max_tokens)
    return _without(history, blocks[min(number + 1, len(blocks) - 1)])


def _blocks(history: tuple[Message, ...]) -> list[tuple[int, int, int]]:
    """Return what may be left out, less to more, the first being nothing.

    Each is the number of the first message that stays, and from where to where further ones go.
    """
    system, groups = turns(history)
    if not groups:
        return []
    lengths = itertools.accumulate((len(group) for group in groups), initial=len(system))
    starts = list(lengths)[:-1]
    last = starts[-1]
    inside = [number for number in range(last, len(history)) if history[number].role == "assistant"]
    exchanges = [(last, inside[0], number) for number in inside[1:]]
    return [*((start, 0, 0) for start in starts), *exchanges]


def _without(history: tuple[Message, ...], block: tuple[int, int, int]) -> tuple[Message, ...]:
    """Return a history without what a block says; system messages stay wherever they are."""
    first, start, end = block
    return tuple(
        one
        for number, one in enumerate(history)
        if one.role == "system" or (number >= first and not start <= number < end)
    )
