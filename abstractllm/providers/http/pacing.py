"""How fast a service may be asked: requests and tokens in a minute, and how many requests at once.

Knows neither HTTP nor providers. One pacer serves any number of event loops and threads: places are given out under a
lock to whoever came first, whichever loop that one waits in, so that a loop that stands still holds up nobody.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

from abstractllm.errors import AbstractLLMError, InvalidParameterError, RequestTimeoutError, shown
from abstractllm.portal import portal
from abstractllm.providers.call import Call
from abstractllm.providers.http.window import Entry, Window
from abstractllm.threads import ForkSafeLock
from abstractllm.types import GenerateRequest, GenerateResponse, TextPart, Usage

_BYTES_OF_A_TOKEN = 4
_TOKENS_OF_A_FILE = 1000
"""What an image or document is taken for until the service has said what it was.

A round number between the 85 tokens of an image that OpenAI reads in low detail and what large images and pages take.
"""


class Clock(Protocol):
    """What tells the time, so that tests need not wait."""

    def now(self) -> float:
        """Return seconds since some moment; they never go back."""

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have `callback` called after so many seconds, in any thread. Raises UnsupportedOperationError where none can.

        It is not called in here.
        """


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return the seconds of the monotonic clock."""
        return time.monotonic()

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Have `callback` called by the portal's loop, which no caller can hold up."""
        portal().later(seconds, callback)


@dataclass(frozen=True, slots=True)
class Pace:
    """The limits; None is no limit.

    No 60 seconds see more than `requests_per_minute` requests begin, or more than `tokens_per_minute` tokens, each
    counted when its request begins; no more than `max_concurrency` requests run at once.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    max_concurrency: int | None = None


NO_LIMITS = Pace()

SETTINGS = frozenset(one.name for one in fields(Pace))
"""The names of the limits in a provider's configuration."""


def read_pace(config: Mapping[str, Any]) -> Pace:
    """Return the limits that a configuration sets. Raises InvalidParameterError."""
    return Pace(**{name: _count(name, config.get(name)) for name in SETTINGS})


def _count(name: str, value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**12:
        raise InvalidParameterError(name, f"{name}={shown(value)} is not valid: it must be a whole number from 1 on.")
    return value


def estimated_tokens(request: GenerateRequest) -> int:
    """Return about how many tokens a request and its answers take: a token for 4 bytes of text, and `max_tokens`."""
    parts = [
        part
        for message in request.messages
        for part in ((TextPart(message.content),) if isinstance(message.content, str) else message.content)
    ]
    size = sum(len(part.text.encode(errors="replace")) for part in parts if isinstance(part, TextPart))
    size += sum(len(tool.name) + len(tool.description or "") + len(str(tool.parameters)) for tool in request.tools)
    files = sum(not isinstance(part, TextPart) for part in parts)
    prompt = -(-size // _BYTES_OF_A_TOKEN) + files * _TOKENS_OF_A_FILE
    return max(1, prompt + (request.max_tokens or 0) * request.n)


def estimated_tokens_of(texts: Iterable[str]) -> int:
    """Return about how many tokens texts have."""
    return max(1, -(-sum(len(text.encode(errors="replace")) for text in texts) // _BYTES_OF_A_TOKEN))


class _Place:
    """A request's place: it waits for it in a loop, has it, and gives it back."""

    __slots__ = ("future", "loop", "taken", "taken_tokens", "tokens", "wait")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.wait = 0.0
        self.taken: Entry | None = None
        self.taken_tokens: Entry | None = None
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()

    def grant(self) -> None:
        """Tell the one who waits. Raises RuntimeError where the loop is closed."""
        self.loop.call_soon_threadsafe(self._tell, None)

    def refuse(self, error: AbstractLLMError) -> None:
        """Tell the one who waits that it waits in vain. Raises RuntimeError where the loop is closed."""
        self.loop.call_soon_threadsafe(self._tell, error)

    def _tell(self, error: AbstractLLMError | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(None)
        else:
            self.future.set_exception(error)


class Pacer:
    """Gives places out, in the order in which they were asked for; safe to use from any thread and loop."""

    def __init__(self, clock: Clock, pace: Pace = NO_LIMITS) -> None:
        self._clock = clock
        self._lock = ForkSafeLock()
        self._pid = os.getpid()
        self._waiting: OrderedDict[_Place, None] = OrderedDict()
        self._ahead = 0  # tokens of those who wait
        self._running: set[_Place] = set()
        self._requests, self._tokens = Window(), Window()
        self._alarm: float | None = None
        self._set(pace)

    def set(self, pace: Pace) -> None:
        """Change the limits; what has been asked for counts on, if that was limited before."""
        with self._lock:
            self._set(pace)
            self._give()

    def _set(self, pace: Pace) -> None:
        self.pace = pace
        self.is_open = pace == NO_LIMITS
        self._requests.limit, self._tokens.limit = pace.requests_per_minute, pace.tokens_per_minute

    def turn(self, tokens: Callable[[], int], call: Call) -> Turn:
        """Return the turn of a request, which has not begun; `tokens` says about how many it will take."""
        return Turn(self, tokens, call)

    def enter(self, tokens: int) -> _Place:
        """Stand in line, and return the place, which may be there at once."""
        with self._lock:
            self._after_fork()
            place = _Place(tokens if self._tokens.limit is None else min(tokens, self._tokens.limit))
            self._waiting[place] = None
            self._ahead += place.tokens
            self._give()
            if place in self._waiting:
                place.wait = self._forecast()
            return place

    def _forecast(self) -> float:
        """Return at least how many seconds the last one in line waits, if nobody before it goes away."""
        now = self._clock.now()
        return max(self._requests.wait_for_all(len(self._waiting), now), self._tokens.wait_for_all(self._ahead, now))

    def has(self, place: _Place) -> bool:
        """Return whether a place is there."""
        return place in self._running

    def position(self, place: _Place) -> int | None:
        """Return how many wait before a place, None where it waits no longer."""
        with self._lock:
            return next((number for number, one in enumerate(self._waiting) if one is place), None)

    def leave(self, place: _Place, *, unused: bool = False) -> None:
        """Give a place back, or stand in line no longer; where nothing was sent from it, it does not count."""
        with self._lock:
            self._running.discard(place)
            if place in self._waiting:
                self._drop(place)
            if unused:
                self._requests.correct(place.taken, 0)
                self._tokens.correct(place.taken_tokens, 0)
            self._give()

    def correct(self, place: _Place, tokens: int) -> None:
        """Say how many tokens a request took in the end."""
        with self._lock:
            self._tokens.correct(place.taken_tokens, tokens)
            self._give()

    def _give(self) -> None:
        """Give out all places that there are, and see to it that this is looked at again when the next one is free."""
        now = self._clock.now()
        while self._waiting:
            first = next(iter(self._waiting))
            if first.loop.is_closed():
                self._drop(first)
                continue
            if self._is_full():
                return
            wait = max(self._requests.wait(1, now), self._tokens.wait(first.tokens, now))
            if wait > 0:
                self._wake_after(wait, now)
                return
            self._drop(first)
            self._admit(first, now)

    def _drop(self, place: _Place) -> None:
        del self._waiting[place]
        self._ahead -= place.tokens

    def _admit(self, place: _Place, now: float) -> None:
        try:
            place.grant()
        except RuntimeError:  # its loop was closed in this moment, and nobody waits there
            return
        self._running.add(place)
        place.taken, place.taken_tokens = self._requests.take(1, now), self._tokens.take(place.tokens, now)

    def _is_full(self) -> bool:
        most = self.pace.max_concurrency
        if most is None or len(self._running) < most:
            return False
        self._running = {place for place in self._running if not place.loop.is_closed()}  # left without a word
        return len(self._running) >= most

    def _wake_after(self, wait: float, now: float) -> None:
        if self._alarm is not None and self._alarm <= now + wait:
            return
        try:
            self._clock.later(wait, self._ring)
        except AbstractLLMError as error:  # a forked process has no thread that could wake anybody
            self._refuse_all(error)
        else:
            self._alarm = now + wait

    def _refuse_all(self, error: AbstractLLMError) -> None:
        for place in list(self._waiting):
            self._drop(place)
            with suppress(RuntimeError):  # its loop was closed in this moment, and nobody waits there
                place.refuse(copy(error))

    def _ring(self) -> None:
        with self._lock:
            self._alarm = None
            self._give()

    def _after_fork(self) -> None:
        """Forget the loops of the parent, which do not run here."""
        if os.getpid() == self._pid:
            return
        self._pid, self._alarm = os.getpid(), None
        self._waiting.clear()
        self._ahead = 0
        self._running.clear()


class Turn:
    """A request's way through a pacer, from `with` to its end, with all of its tries."""

    __slots__ = ("_call", "_pacer", "_place", "_tokens")

    def __init__(self, pacer: Pacer, tokens: Callable[[], int], call: Call) -> None:
        self._pacer = pacer
        self._tokens = tokens
        self._call = call
        self._place: _Place | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    async def begin(self) -> None:
        """Wait until the request, or another try of it, may be sent.

        Raises RequestTimeoutError at once where that is known to be after a limit of the request has passed.
        """
        self.end()
        if self._pacer.is_open:
            return
        limited = self._pacer.pace.tokens_per_minute is not None
        place = self._pacer.enter(self._tokens() if limited else 1)
        try:
            await self._wait_for(place)
        except BaseException:
            self._pacer.leave(place, unused=True)
            raise
        self._place = place

    async def _wait_for(self, place: _Place) -> None:
        if self._pacer.has(place):
            return
        self._check_in_time(place)
        self._call.in_line(lambda: self._pacer.position(place))
        await place.future

    def noted(self, delta: GenerateResponse) -> GenerateResponse:
        """Return a delta; what it says of the tokens that were used counts instead of the estimate."""
        if delta.usage is not None:
            self.used(delta.usage)
        return delta

    def used(self, usage: Usage) -> None:
        """Say what was used, which counts instead of the estimate."""
        if self._place is not None:
            self._pacer.correct(self._place, usage.total_tokens)

    def end(self) -> None:
        """Give the place back to who waits. Safe to call twice."""
        place, self._place = self._place, None
        if place is not None:
            self._pacer.leave(place)

    def _check_in_time(self, place: _Place) -> None:
        ends = list(_ends(self._call))
        if not ends:
            return
        left, name = min(ends)
        if place.wait >= left:
            raise RequestTimeoutError(
                f"The limits of this client let the request begin in {place.wait:.1f} s, and its limit of"
                f" {getattr(self._call.timeout, name):g} s for {name!r} passes before; raise timeout, or"
                " requests_per_minute and tokens_per_minute.",
                limit=name,
            )


def _ends(call: Call) -> Iterator[tuple[float, str]]:
    """Yield how many seconds are left until the limits pass that the beginning of an answer has to keep."""
    total = call.remaining()
    if total is not None:
        yield total, "total"
    if call.timeout.first_event is not None and not call.begun:
        yield call.asked + call.timeout.first_event - time.monotonic(), "first_event"
