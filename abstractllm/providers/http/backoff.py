"""How long to wait before another try. Knows neither HTTP nor clocks."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

_DOUBLINGS = 60
"""More of them than this change nothing and would overflow a float."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits in seconds, with full jitter: drawn from 0 to a bound that starts at `first` and doubles up to `cap`.

    `longest` is how long a service may ask us to wait; `draw` returns a number from 0 to 1. Full jitter spreads clients
    that failed together best, as the AWS Architecture Blog measured ("Exponential Backoff And Jitter", 2015).
    """

    first: float = 0.5
    cap: float = 8.0
    longest: float = 120.0
    draw: Callable[[], float] = random.random

    def wait(self, tries: int, *, asked: float | None = None, room: float | None = None) -> float | None:
        """Return the wait after `tries` tries that failed, or None where waiting makes no sense.

        `asked` is what the service asked for, which is kept; `room` is what is left until a limit of the request. A
        wait that takes all of it, or is longer than a service may ask for, is None.
        """
        if asked is not None and asked > self.longest:
            return None
        bound = min(self.cap, self.first * 2.0 ** min(tries - 1, _DOUBLINGS))
        wait = max(asked or 0.0, self.draw() * bound)
        return None if room is not None and wait >= room else wait
