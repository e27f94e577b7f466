"""The arguments of a call, as a model wrote them -> checked values for the tool's function."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from abstractllm.errors import InvalidParameterError, ToolArgumentError
from abstractllm.schema import dialect_of, line_of_error, problem_of, without_nulls
from abstractllm.tools.callables import Callee, context_parameter, look_into
from abstractllm.tools.fitting import Fits, quick_check
from abstractllm.tools.making import checked_schema, subject_of
from abstractllm.tools.remembering import Remembered
from abstractllm.tools.signatures import Taken, taken_by
from abstractllm.types import ToolDefinition

_MISSING, _UNKNOWN = "is missing", "is not one of the parameters"
_PLAINER = {"missing": _MISSING, "extra_forbidden": _UNKNOWN}
"""What some kinds of pydantic's errors say here."""


def validate_arguments(definition: ToolDefinition, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments to call a tool's function with, but for a `ToolContext`.

    Where the definition was made from its function, they are validated and coerced to the types of its hints
    (`"2025-01-01"` to a date, an object to a dataclass); arguments that were not given are left to the function's own
    defaults. Where the schema was written by hand, they are validated against it and handed over as they are.

    An argument that may be left out counts as left out where it is null and null does not fit, as models write that
    must say something of every argument.

    Raises ToolArgumentError, which lists everything that is wrong in one line each.
    """
    if not isinstance(arguments, Mapping):
        raise ToolArgumentError(definition.name, [f"must be an object, not {type(arguments).__name__}"])
    reader = reader_of(definition)
    try:
        return reader.read(arguments)
    except ToolArgumentError:
        shorter = _without_nulls(definition, arguments)
        if shorter is not None:
            with suppress(ToolArgumentError):  # what was wrong with the arguments as they are says more
                return reader.read(shorter)
        raise


def _without_nulls(definition: ToolDefinition, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
    try:
        shorter = without_nulls(json.dumps(dict(definition.parameters)), json.dumps(dict(arguments)))
    except (TypeError, ValueError, RecursionError):  # not from a model, which writes JSON
        return None
    return None if shorter is None else json.loads(shorter)


@dataclass(frozen=True, slots=True)
class Reader:
    """How arguments of the tool `name` are read: by what is known of its function, or by a validator of its schema.

    `context` is the parameter of the function that is not the model's to give. `taken` is what the function of a
    schema that was written by hand takes: such a schema may allow what would fail there.
    """

    name: str
    callee: Callee | None = None
    validator: Any = None
    context: str | None = None
    taken: Taken | None = None
    fits: Fits | None = None
    """A quick look that spares the validator, for a schema that has one."""

    def read(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return keyword arguments. Raises ToolArgumentError."""
        if self.context is not None and self.context in arguments:
            raise ToolArgumentError(
                self.name, [*self._problems_beside(self.context, arguments), _unknown(self.context)]
            )
        if self.callee is not None:
            return _coerced(self.name, self.callee, arguments)
        values = dict(arguments)
        quick = self.fits is not None and self.fits(values)
        problems = [] if quick else [problem_of(error) for error in self.validator.iter_errors(values)]
        problems = sorted(problems) or _untakeable(self.taken, values)
        if problems:
            raise ToolArgumentError(self.name, problems)
        return values

    def _problems_beside(self, context: str, arguments: Mapping[str, Any]) -> tuple[str, ...]:
        try:
            self.read({name: value for name, value in arguments.items() if name != context})
        except ToolArgumentError as error:
            return error.problems
        return ()


def _unknown(parameter: str) -> str:
    """Return what is said of an argument that a tool does not take from a model."""
    return f"{parameter}: {_UNKNOWN}"


def _untakeable(taken: Taken | None, values: Mapping[str, Any]) -> list[str]:
    """Return what a function would not take of values that fit the schema, one line each."""
    if taken is None:
        return []
    surplus = set() if taken.names is None else values.keys() - taken.names
    missing = taken.needed - values.keys()
    return [f"{one}: {_MISSING}" for one in sorted(missing)] + [_unknown(one) for one in sorted(surplus)]


def _coerced(tool: str, callee: Callee, arguments: Mapping[str, Any]) -> dict[str, Any]:
    from pydantic import ValidationError

    try:
        return callee.coerce(arguments)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        problems = [line_of_error(one["loc"], _PLAINER.get(one["type"], one["msg"])) for one in found]
        raise ToolArgumentError(tool, problems) from error


def _reader(definition: ToolDefinition) -> Reader:
    callee = _own_callee(definition)
    if callee is not None:
        return Reader(definition.name, callee, context=callee.context)
    from referencing import Registry

    schema = checked_schema(definition.name, definition.parameters)
    validator = dialect_of("tools", subject_of(definition.name), schema)(schema, registry=Registry())
    function = definition.function
    if function is None:
        return Reader(definition.name, validator=validator, fits=quick_check(schema))
    context = context_parameter(definition.name, function)
    return Reader(definition.name, None, validator, context, taken_by(function, context), quick_check(schema))


reader_of = Remembered(_reader)


def _own_callee(definition: ToolDefinition) -> Callee | None:
    """Return what is known of a definition's function, if the schema was made from it."""
    if definition.function is None:
        return None
    try:
        callee = look_into(definition.name, definition.function)
    except InvalidParameterError:
        return None  # no schema can be made from this function, so it was written by hand
    return callee if callee.schema == definition.parameters else None
