"""Errors in the middle of a stream, held back until what came before them has been read. Knows no format."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from abstractllm.errors import AbstractLLMError

Item = TypeVar("Item")
Result = TypeVar("Result")


class DeferredReader:
    """Reads items in order. What was read before an error is returned first; the next call raises the error."""

    def __init__(self) -> None:
        self._failure: AbstractLLMError | None = None

    def check(self) -> None:
        """Raise the error that was held back, if there is one."""
        if self._failure is not None:
            raise self._failure

    def read(self, items: Iterable[Item], take: Callable[[Item], Result | None]) -> list[Result]:
        """Return what `take` makes of the items, without None. Raises what it raises, now or at the next call."""

        def add(item: Item, results: list[Result]) -> None:
            result = take(item)
            if result is not None:
                results.append(result)

        return self.collect(items, add)

    def collect(self, items: Iterable[Item], take: Callable[[Item, list[Result]], None]) -> list[Result]:
        """Return what `take` adds for the items to a list. Raises what it raises, now or at the next call."""
        self.check()
        results: list[Result] = []
        try:
            for item in items:
                take(item, results)
        except AbstractLLMError as error:
            self._failure = error
            if not results:
                raise
        return results
