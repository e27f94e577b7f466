"""What has been found out about a `ToolDefinition`, kept as long as the definition lives and stays as it is."""

from __future__ import annotations

import marshal
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from abstractllm.types import ToolDefinition

T = TypeVar("T")


class Remembered(Generic[T]):
    """A function of a definition that is worked out once for each. What it returns must not hold the definition.

    The schema of a definition is a dict that somebody may change: its contents are compared each time, to the byte, as
    1 and True are equal and mean different things. A schema that is not made of plain JSON values alone is worked out
    each time. Any number of threads may call it; two at once may both work.
    """

    def __init__(self, work_out: Callable[[ToolDefinition], T]) -> None:
        self._work_out = work_out
        self._found: dict[int, tuple[weakref.ref[ToolDefinition], bytes, T]] = {}

    def __call__(self, definition: ToolDefinition) -> T:
        try:  # the format of Python 2.5, which has no references that come and go
            mark = marshal.dumps(definition.parameters, 2)  # type: ignore[arg-type]
        except ValueError:  # something else than plain JSON values
            return self._work_out(definition)
        found = self._found.get(id(definition))
        if found is not None and found[1] == mark and found[0]() is definition:
            return found[2]
        value = self._work_out(definition)
        self._keep(definition, mark, value)
        return value

    def _keep(self, definition: ToolDefinition, mark: bytes, value: T) -> None:
        key, found = id(definition), self._found

        def forget(gone: weakref.ref[ToolDefinition]) -> None:
            if key in found and found[key][0] is gone:  # another one may live at the address by now
                del found[key]

        found[key] = (weakref.ref(definition, forget), mark, value)
