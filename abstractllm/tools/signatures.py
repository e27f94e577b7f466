"""The parameters of a Python callable, their type hints, and which of them takes what no model is to write.

Calls nothing and knows neither JSON Schema nor pydantic.
"""

from __future__ import annotations

import builtins
import dataclasses
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter
from types import SimpleNamespace
from typing import Any

from abstractllm.errors import InvalidParameterError


class Injected:
    """Base of the types whose values come from whoever runs a tool; a parameter with such a hint is in no schema."""

    __slots__ = ()

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> Any:
        """Tell pydantic that objects of the class are as they are; they have no JSON Schema anywhere."""
        return {"type": "is-instance", "cls": cls}


def signature_of(name: str, function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of the tool `name`. Raises InvalidParameterError where there is none to be had."""
    try:
        return inspect.signature(function)
    except (ValueError, TypeError, NameError) as error:
        raise bad(
            f"The tool {name!r} does not tell what arguments it takes ({error}); wrap it in a function with type hints."
        ) from error


def bad(message: str) -> InvalidParameterError:
    """Return the error for a tool that cannot be one."""
    return InvalidParameterError("tools", message)


def named(name: str, function: Callable[..., Any], signature: inspect.Signature) -> Iterator[Parameter]:
    """Yield the parameters that are given when a tool is called, which must be known by name; bound ones are not.

    Raises InvalidParameterError for a parameter that can only be given by position.
    """
    bound = function.keywords if isinstance(function, functools.partial) else {}
    for number, one in enumerate(signature.parameters.values()):
        if one.kind is Parameter.VAR_POSITIONAL:
            raise bad(f"The tool {name!r} takes *{one.name}, and models give arguments by name; take a list instead.")
        if one.kind is Parameter.POSITIONAL_ONLY:
            raise bad(f"The tool {name!r} takes {one.name!r} by position alone; remove the '/' from its signature.")
        if number == 0:
            _check_bound(name, one)
        if one.kind is not Parameter.VAR_KEYWORD and one.name not in bound:
            yield one


def _check_bound(name: str, first: Parameter | None) -> None:
    if first is not None and first.name in ("self", "cls") and first.annotation is Parameter.empty:
        raise bad(f"The tool {name!r} is a method without its object; pass it from an object, as in obj.{name}.")


@dataclass(frozen=True, slots=True)
class Taken:
    """The names that a function takes when it is called by name, None for any, and those that it cannot do without."""

    names: frozenset[str] | None
    needed: frozenset[str]


def taken_by(function: Callable[..., Any], context: str | None) -> Taken | None:
    """Return what a function takes beside its context; None where it does not tell, or not by its signature."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (ValueError, TypeError, NameError):
        return None
    takes_any = any(one.kind is Parameter.VAR_KEYWORD for one in parameters)
    given = [one for one in parameters if one.name != context and one.kind not in _MANY]
    named = frozenset(one.name for one in given if one.kind is not Parameter.POSITIONAL_ONLY)
    return Taken(None if takes_any else named, frozenset(one.name for one in given if one.default is Parameter.empty))


_MANY = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


def check_fit(name: str, schema: Mapping[str, Any], function: Callable[..., Any], context: str | None) -> None:
    """Refuse a schema that was written by hand and does not fit the function of the tool `name`."""
    taken, properties = taken_by(function, context), schema.get("properties", {})
    if context is not None and context in properties:
        raise bad(f"The parameters of the tool {name!r} have {context!r}, its context, which no model can give.")
    if taken is None:
        return
    _check_bound(name, next(iter(inspect.signature(function).parameters.values()), None))
    for one in sorted(set() if taken.names is None else properties.keys() - taken.names):
        raise bad(f"The parameters of the tool {name!r} have {one!r}, which its function does not take; add it there.")
    for one in sorted(taken.needed - properties.keys() - set(schema.get("required", ()))):
        raise bad(f"The function of the tool {name!r} needs {one!r}, which its parameters do not have; add it there.")


def injected_parameter(name: str, hints: dict[str, Any]) -> str | None:
    """Return the parameter of the tool `name` that is injected, of those with these hints; None where none is.

    Raises InvalidParameterError where there are two, or where one may be something else too.
    """
    found = [parameter for parameter, hint in hints.items() if _is_injected(name, parameter, hint)]
    if len(found) > 1:
        raise bad(f"The tool {name!r} takes its context twice, as {' and '.join(map(repr, found))}; take it once.")
    return found[0] if found else None


def _is_injected(name: str, parameter: str, hint: Any) -> bool:
    members = [typing.get_origin(one) or one for one in _members(hint)]
    contexts = [one for one in members if isinstance(one, type) and issubclass(one, Injected)]
    if contexts and any(one not in (*contexts, type(None)) for one in members):
        kind = contexts[0].__name__
        raise bad(f"{parameter!r} of the tool {name!r} is a {kind} or something else; annotate it as {kind} alone.")
    return bool(contexts)


def _members(hint: Any) -> Iterator[Any]:
    """Yield the types that a hint allows, without what is annotated to them and with aliases written out."""
    if hasattr(hint, "__metadata__"):
        yield from _members(hint.__origin__)
    elif type(hint).__name__ == "TypeAliasType":
        yield from _members(hint.__value__)
    elif typing.get_origin(hint) in (typing.Union, types.UnionType):
        for one in typing.get_args(hint):
            yield from _members(one)
    else:
        yield hint


def hint_of(name: str, function: Callable[..., Any], parameter: Parameter) -> Any:
    """Return the type hint of a parameter, resolved where it is a string; Any without one.

    Raises InvalidParameterError where it cannot be resolved; but what stands in the brackets of an injected type says
    nothing here, so that it may be unknown.
    """
    if parameter.annotation is Parameter.empty:
        return Any
    holder = SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    outer, inner = _scope(function, parameter.name)
    try:
        hint = typing.get_type_hints(holder, outer, inner, include_extras=True)[parameter.name]
    except Exception as error:  # the hint is an expression of the tool's author, and may raise anything
        known = _roughly(holder, parameter.name, outer, inner)
        if known is not None and _is_injected(name, parameter.name, known):
            return known
        raise bad(
            f"The type hint of {parameter.name!r} in the tool {name!r} cannot be resolved ({error}); "
            "define what it names at the top level of the module, and import it outside TYPE_CHECKING."
        ) from error
    return hint.type if isinstance(hint, dataclasses.InitVar) else hint


class _Unknown(type):
    """Makes a class that stands for a name nobody knows, and for what is found in it."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):  # which Python and typing ask for
            raise AttributeError(name)
        return cls

    def __getitem__(cls, item: object) -> Any:
        return cls


class _Anything(metaclass=_Unknown):
    pass


class _Names(dict[str, Any]):
    """Names in a hint, where unknown ones stand for anything."""

    def __missing__(self, name: str) -> Any:
        return _Anything


def _roughly(holder: object, parameter: str, outer: dict[str, Any], inner: dict[str, Any]) -> Any:
    """Return what a hint says when unknown names stand for anything; None where that is no hint either."""
    names = _Names({**vars(builtins), **outer, **inner})
    try:
        return typing.get_type_hints(holder, {}, names, include_extras=True)[parameter]
    except Exception:  # as above
        return None


def _scope(function: Any, parameter: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the global and local names that a hint written as a string may use."""
    if isinstance(function, functools.partial):
        return _scope(function.func, parameter)
    if dataclasses.is_dataclass(function) and isinstance(function, type):
        owners = (one for one in function.__mro__ if parameter in inspect.get_annotations(one))
        owner = next(owners, function)
        return vars(sys.modules[owner.__module__]), dict(vars(owner))
    if isinstance(function, type):
        return _scope(inspect.getattr_static(function, "__init__"), parameter)
    if not inspect.isroutine(function):
        return _scope(type(function).__call__, parameter)
    plain = inspect.unwrap(getattr(function, "__func__", function))
    generic = {one.__name__: one for one in getattr(plain, "__type_params__", ())}
    nonlocals = dict(inspect.getclosurevars(plain).nonlocals) if inspect.isfunction(plain) else {}
    return getattr(plain, "__globals__", {}), generic | nonlocals
