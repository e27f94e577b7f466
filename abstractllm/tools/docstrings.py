"""What the docstring of a callable says of the whole and of each parameter: Google's, NumPy's and Sphinx's styles."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from abstractllm.tools.signatures import bad

if TYPE_CHECKING:
    from docstring_parser import Docstring


def documentation_of(function: Callable[..., Any]) -> str:
    """Return the docstring that a callable's author wrote, or an empty string."""
    if isinstance(function, functools.partial):
        return documentation_of(function.func)
    if isinstance(function, type):
        made = dataclasses.is_dataclass(function) and (function.__doc__ or "").startswith(f"{function.__name__}(")
        return "" if made else inspect.cleandoc(function.__doc__ or "")
    if inspect.isroutine(function):
        return inspect.getdoc(function) or ""
    return inspect.cleandoc(type(function).__call__.__doc__ or type(function).__doc__ or "")


def parsed(name: str, documentation: str) -> Docstring:
    """Return the parts of the docstring of the tool `name`. Raises InvalidParameterError where it cannot be read."""
    from docstring_parser import ParseError, parse

    try:
        return parse(documentation)
    except ParseError as error:
        raise bad(f"The docstring of the tool {name!r} cannot be read; correct it: {error}") from error


def descriptions_in(documentation: Docstring) -> dict[str, str]:
    """Return the description of each parameter or attribute; NumPy's style may name several at once."""
    return {
        name.strip().lstrip("*"): one.description.strip()
        for one in documentation.params
        if one.description and one.description.strip()
        for name in one.arg_name.split(",")
    }


def description_of(name: str, function: Callable[..., Any]) -> str:
    """Return what the docstring of the tool `name` says about the whole."""
    return (parsed(name, documentation_of(function)).description or "").strip()
