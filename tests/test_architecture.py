"""The layers of the package: nothing imports upwards, nothing in a circle, no library outside its place."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

LAYERS = (
    {"accumulator", "embedded", "errors", "parameters", "prices", "types"},
    {"aio", "batch", "capabilities", "engine", "files", "hints", "history", "interface", "messages"}
    | {"portal", "progressline", "schema", "streams", "text", "threads", "tools", "wire"},
    {"providers"},
    {"factory", "fallback", "profiles", "registry"},
    {"agent", "observing", "session"},
    {"integrations", "server", "testing"},
    {"cli"},
)
"""Names directly under the package, from the ground up; each imports only from its own layer and those before it."""

LEAVES = {"embedded"}
"""Names that import nothing of the package."""

PLACES = {
    "aiohttp": ("providers.http",),
    "click": ("cli",),
    "docstring_parser": ("schema", "tools"),
    "httpx2": ("agent.mcp",),
    "huggingface_hub": ("providers.local",),
    "hypothesis": ("testing",),
    "jsonschema": ("schema", "tools"),
    "langchain": ("integrations.langchain",),
    "langchain_core": ("integrations.langchain",),
    "llguidance": ("providers.local",),
    "mcp": ("agent.mcp",),
    "mlx": ("providers.mlx",),
    "mlx_lm": ("providers.mlx",),
    "msgspec": ("wire",),
    "numpy": ("providers.huggingface", "providers.local", "providers.mlx"),
    "opentelemetry": ("observing.spans", "observing.tracing"),
    "PIL": ("files",),
    "pydantic": ("hints", "integrations.langchain", "schema", "tools"),
    "pydantic_core": ("tools",),
    "pypdf": ("files",),
    "pytest": ("testing",),
    "referencing": ("schema", "tools"),
    "rich": ("cli",),
    "torch": ("providers.huggingface",),
    "tqdm": ("providers.mlx",),
    "transformers": ("providers.huggingface", "providers.mlx"),
    "uvicorn": ("agent.mcp",),
}
"""Libraries, and the only modules (with what is in them) that may import them. `typing_extensions` may be anywhere.

A library whose modules are not written yet is no dependency in setup.cfg either.
"""

SHARED_BY_PROVIDERS = {"base", "call", "http", "request", "run"}
"""What may be imported from `providers` elsewhere; everything else there is one provider or another."""

SHARED_AMONG_PROVIDERS = (
    SHARED_BY_PROVIDERS
    | {"documents", "embedding", "embedding_services", "intake", "local", "reask", "sources", "stopping"}
    | {"compatible", "services"}
)
"""What one provider may import beside its own; `compatible` and `services` are what services of one dialect share."""


@dataclass(frozen=True)
class Import:
    """Module `importer` imports `target` in line `line`; both are dotted names. `typing` marks what never runs."""

    importer: str
    target: str
    line: int
    typing: bool = False

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


def modules_in(root: Path) -> dict[str, Path]:
    """Return the modules of the package in folder `root` by dotted name."""
    found = {}
    for path in sorted(root.rglob("*.py")):
        parts = [root.name, *path.relative_to(root).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_in(root: Path) -> list[Import]:
    """Return every import of every module, wherever in the module it stands."""
    modules = modules_in(root)
    return [found for name, path in modules.items() for found in imports_of(name, path, modules)]


def imports_of(name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[Import]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    quiet = {id(node) for block in typing_blocks(tree) for part in block.body for node in ast.walk(part)}
    for node in ast.walk(tree):
        for target in targets(node, name, path, modules):
            yield Import(name, target, node.lineno, id(node) in quiet)


def typing_blocks(tree: ast.Module) -> Iterator[ast.If]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield node


def targets(node: ast.AST, name: str, path: Path, modules: Mapping[str, Path]) -> Iterator[str]:
    """Yield the modules that an import statement names; `from a import b` needs `a`, and `a.b` if that is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parts = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
            base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
        for alias in node.names:
            inner = f"{base}.{alias.name}"
            if inner in modules or (base == name.split(".")[0] and alias.name[:2] != "__"):
                yield inner
        yield base


def part(module: str) -> str:
    """Return the name directly under the package, or an empty string for the package itself."""
    return [*module.split("."), ""][1]


def layer(module: str) -> int:
    return next((number for number, names in enumerate(LAYERS) if part(module) in names), -1)


def violations(root: Path) -> list[str]:
    """Return what breaks the rules in the package in folder `root`, one line each."""
    modules = modules_in(root)
    everything = imports_in(root)
    ours = [one for one in everything if one.target.partition(".")[0] == root.name]
    running = [one for one in ours if not one.typing]
    unplaced = [f"{name} stands in no layer" for name in modules if part(name) and layer(name) < 0]
    return [
        *unplaced,
        *upward(running),
        *(f"circle: {' -> '.join(found)}" for found in circles(running, modules)),
        *misplaced_libraries(everything, root.name),
        *named_providers(ours),
        *borrowing_providers(ours),
    ]


def upward(imports: list[Import]) -> Iterator[str]:
    for one in imports:
        if not part(one.importer) or not part(one.target):
            continue
        if part(one.importer) in LEAVES and part(one.target) != part(one.importer):
            yield f"{one}, and it may import nothing"
        if layer(one.target) < 0:
            yield f"{one}, which is no module; import a name from where it is defined"
        elif layer(one.target) > layer(one.importer):
            yield f"{one}, which is above it"


def circles(imports: list[Import], modules: Mapping[str, Path]) -> Iterator[list[str]]:
    """Yield the circles that a depth-first walk meets; there is one if and only if modules import in a circle."""
    graph: dict[str, list[str]] = {name: [] for name in modules}
    for one in imports:
        if one.target in graph:
            graph[one.importer].append(one.target)
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> Iterator[list[str]]:
        if name in path:
            yield [*path[path.index(name) :], name]
            return
        if name in done:
            return
        for target in graph[name]:
            yield from walk(target, [*path, name])
        done.add(name)

    for name in graph:
        yield from walk(name, [])


def misplaced_libraries(imports: list[Import], package: str) -> Iterator[str]:
    free = sys.stdlib_module_names | {package, "typing_extensions"}
    for one in imports:
        library = one.target.partition(".")[0]
        if library in free:
            continue
        places = PLACES.get(library)
        if places is None:
            yield f"{one}, a library that has no place"
        elif not any(f"{one.importer}.".startswith(f"{package}.{place}.") for place in places):
            yield f"{one}, which only {', '.join(places)} may"


def named_providers(imports: list[Import]) -> Iterator[str]:
    for one in imports:
        path = one.target.split(".")[1:]
        if path[:1] != ["providers"] or part(one.importer) == "providers":
            continue
        if len(path) > 1 and path[1] not in SHARED_BY_PROVIDERS:
            yield f"{one}, one provider by name; ask the registry"


def borrowing_providers(imports: list[Import]) -> Iterator[str]:
    """Yield imports of one provider, or a part of it, in another; the parts of `a` are in it or named `a_...`."""
    for one in imports:
        path, own = one.target.split(".")[1:], one.importer.split(".")[1:]
        if path[:1] != ["providers"] or own[:1] != ["providers"] or len(path) < 2 or len(own) < 2:
            continue
        if path[1] in SHARED_AMONG_PROVIDERS or f"{path[1]}_".startswith(f"{own[1]}_"):
            continue
        yield f"{one}, of another provider; move what both need to where it is shared"


def test_the_package_keeps_its_layers(package):
    assert "\n".join(violations(package)) == ""


def write(root: Path, files: Mapping[str, str]) -> Path:
    """Write a package in folder `root`."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        for folder in [path.parent, *path.parent.parents]:
            if folder == root.parent:
                break
            (folder / "__init__.py").touch()
    return root


SOUND = {
    "types.py": "import json\nfrom typing_extensions import Self",
    "errors.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from abstractllm.interface import X",
    "interface.py": "from abstractllm import errors, types",
    "files.py": "def read():\n    from PIL import Image",
    "providers/base.py": "from ..interface import X\nfrom . import call",
    "providers/call.py": "from abstractllm import __version__",
    "providers/mlx/worker.py": "import mlx.core\nfrom abstractllm.providers.local import hub",
    "providers/local/hub.py": "import huggingface_hub",
    "providers/ollama.py": "from . import call, ollama_address",
    "providers/ollama_address.py": "",
    "factory.py": "from abstractllm.providers.base import BaseProvider",
    "cli/app.py": "import click\nfrom abstractllm.factory import create_llm",
}


def test_a_sound_package_passes(tmp_path):
    assert violations(write(tmp_path / "abstractllm", SOUND)) == []


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"types.py": "import abstractllm.interface"}, "types:1 imports abstractllm.interface, which is above"),
        ({"types.py": "def f():\n    from .factory import g"}, "types:2 imports abstractllm.factory, which is above"),
        ({"providers/base.py": "from ..factory import create_llm"}, "providers.base:1 imports abstractllm.factory"),
        ({"cli/app.py": "from abstractllm import create_llm"}, "import a name from where it is defined"),
        ({"types.py": "from abstractllm.errors import E", "errors.py": "import abstractllm.types"}, "circle: "),
        ({"providers/__init__.py": "from . import base", "providers/base.py": "from . import X"}, "circle: "),
        ({"helpers.py": ""}, "abstractllm.helpers stands in no layer"),
        ({"embedded/__init__.py": "from abstractllm.types import X"}, "it may import nothing"),
        ({"interface.py": "def f():\n    import PIL.Image"}, "interface:2 imports PIL.Image, which only files may"),
        ({"providers/mlxtra.py": "import mlx"}, "mlxtra:1 imports mlx, which only providers.mlx may"),
        ({"types.py": "import requests"}, "imports requests, a library that has no place"),
        ({"factory.py": "from abstractllm.providers.mlx import X"}, "one provider by name"),
        ({"cli/app.py": "from abstractllm.providers import mlx"}, "one provider by name"),
        (
            {"providers/huggingface/a.py": "def f():\n    from ..mlx import worker"},
            "a:2 imports abstractllm.providers.mlx.worker, of another",
        ),
        ({"providers/openai.py": "from abstractllm.providers.ollama import X"}, "of another provider"),
        ({"providers/openai.py": "from . import ollama_address"}, "of another provider"),
        ({"providers/local/hub.py": "from ..mlx.worker import X"}, "of another provider"),
    ],
)
def test_each_violation_is_found(tmp_path, files, expected):
    found = violations(write(tmp_path / "abstractllm", SOUND | files))
    assert any(expected in line for line in found), found
