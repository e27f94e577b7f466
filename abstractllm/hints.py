"""Type hints in the form in which pydantic can read values of them from JSON."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal


def readable(hint: Any) -> Any:
    """Return a hint that has the same JSON Schema and values, where pydantic would not read them otherwise.

    Items of an iterable are checked when somebody iterates over it, so that lists stand in their place; and a literal
    that is a member of an enum is not read from the member's value, which is all that the schema speaks of. The fields
    of a class are left to pydantic.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Iterable or origin is Iterable:
        return list[readable(inner[0]) if inner else Any]  # type: ignore[misc]
    if origin is Literal:
        return _literal(hint, inner)
    found = tuple(readable(one) for one in inner)
    if found == inner:
        return hint
    if origin is Annotated:
        return Annotated[(found[0], *inner[1:])]
    if origin in (typing.Union, types.UnionType):
        return typing.Union[found]  # noqa: UP007 (the members are known here only)
    return origin[found] if isinstance(hint, types.GenericAlias) else hint


def _literal(hint: Any, values: tuple[Any, ...]) -> Any:
    from pydantic import BeforeValidator

    members = {one.value: one for one in values if isinstance(one, enum.Enum) and one.value not in values}
    return Annotated[hint, BeforeValidator(_member_of(members))] if members else hint


def _member_of(members: dict[Any, enum.Enum]) -> Callable[[Any], Any]:
    def member(value: Any) -> Any:
        known = next((one for one in members.items() if one[0] == value and type(one[0]) is type(value)), None)
        return value if known is None else known[1]

    return member
