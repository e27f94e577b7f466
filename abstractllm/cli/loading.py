"""`module:name` and `file.py:name` -> tools. Imports what the user names, and calls none of it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from abstractllm.errors import InvalidParameterError, did_you_mean
from abstractllm.tools import Tool
from abstractllm.tools.classes import is_class_of_tools

_FORM = "MODULE:NAME or FILE.py:NAME"


def load_tools(texts: Iterable[str], folder: Path) -> list[Tool]:
    """Return the tools that are named by `module:name` or `file.py:name`, where the name may be dotted.

    What has that name is a function, a tool, a class of tools, which is called without arguments, or a list of those.
    Files are relative to `folder`, in which modules are looked for after all other places. Each file is run once.

    Raises InvalidParameterError, which names the text, for what is not there, cannot be imported or is no tool.
    """
    files: dict[Path, ModuleType] = {}
    return [tool for text in texts for tool in _load(text, folder, files)]


def _load(text: str, folder: Path, files: dict[Path, ModuleType]) -> Iterator[Tool]:
    place, colon, name = text.strip().rpartition(":")
    if not colon or not place or not name:
        raise _bad(text, f"it is not of the form {_FORM}")
    if place.endswith(".py"):
        module = _file(text, folder / Path(place).expanduser(), files)
    else:
        module = _module(text, place, folder)
    value = _attribute(text, module, name)
    for one in value if isinstance(value, (list, tuple)) else (value,):
        yield _tool(text, one)


def _bad(text: str, why: str) -> InvalidParameterError:
    end = "" if why.endswith("?") else "."
    return InvalidParameterError("tools", f"The tool {text!r} cannot be used: {why}{end}")


def _file(text: str, path: Path, files: dict[Path, ModuleType]) -> ModuleType:
    path = path.resolve()
    if path in files:
        return files[path]
    if not path.is_file():
        raise _bad(text, f"there is no file {path}")
    _look_in(path.parent)
    name = f"abstractllm_tools_{path.stem}_{zlib.crc32(bytes(path)):x}"  # files in two folders may have one name
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise _bad(text, f"{path} is no Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look for their module there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _not_imported(text, error) from error
    files[path] = module
    return module


def _module(text: str, name: str, folder: Path) -> ModuleType:
    _look_in(folder)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            why = f"there is no module {error.name!r}, neither installed nor in {folder.resolve()}"
            raise _bad(text, f"{why}; a file is named with its ending, as in {name}.py:NAME") from error
        raise _not_imported(text, error) from error


def _look_in(folder: Path) -> None:
    """Have imports find what lies in a folder, after all other places, so that a file there hides nothing."""
    if str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))


def _not_imported(text: str, error: BaseException) -> InvalidParameterError:
    said = f": {error}" if str(error) else ""
    return _bad(text, f"importing it raised {type(error).__name__}{said}{_line_of(error)}; --debug shows where")


def _line_of(error: BaseException) -> str:
    """Return the last line of the traceback that is of a file, in words."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or isinstance(error, SyntaxError):
        return ""
    file = trace.tb_frame.f_code.co_filename
    return "" if file.startswith("<") else f" ({Path(file).name}, line {trace.tb_lineno})"


def _attribute(text: str, module: ModuleType, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            hint = did_you_mean(part, [known for known in dir(value) if not known.startswith("_")])
            raise _bad(text, f"there is no {name!r} in {module.__file__ or module.__name__}{hint and '.' + hint}")
        value = getattr(value, part)
    return value


def _tool(text: str, value: Any) -> Tool:
    if is_class_of_tools(value):
        try:
            value = value()
        except Exception as error:
            why = f"making a {value.__name__} without arguments raised {type(error).__name__}: {error}"
            raise _bad(text, f"{why}; name an object of the class instead") from error
    try:
        return Tool.of(value)
    except InvalidParameterError as error:
        raise _bad(text, error.message.removesuffix(".")) from error
