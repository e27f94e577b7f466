"""The pages do what they say: code runs, commands exist, links lead somewhere, lists are whole."""

from __future__ import annotations

import ast
import configparser
import logging
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner

import abstractllm
from abstractllm import errors
from abstractllm.cli import cli
from abstractllm.cli.chat import COMMANDS as CHAT_COMMANDS
from abstractllm.cli.failures import EXIT_CODES
from abstractllm.cli.providers import SHOWN
from abstractllm.engine.engine import Limits
from abstractllm.errors import DISTRIBUTION
from abstractllm.files import MAX_BYTES, MAX_TEXT_BYTES
from abstractllm.parameters import CHECKS
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.http import HTTPProvider
from abstractllm.providers.huggingface import HuggingFaceProvider
from abstractllm.providers.local.preparing import MAX_TOKENS as MLX_MAX_TOKENS
from abstractllm.registry import get_provider_class, list_providers
from abstractllm.testing import ProviderConformance

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
PACKAGE = Path(abstractllm.__file__).parent

NO_RUN = "no-run"
"""Second word of a fence's info string, for Python that needs a key or a download: it is only compiled."""

MAX_TOKENS = "40"
"""Longest answer here of the model that ships. No test looks at its wording."""

SCRIPT = re.compile(r"python ((?:tests|docs)/\S+\.py)(.*)")
EXTRAS = re.compile(r"(?:abstractllm-mlx|[\"' `]\.)\[([a-z,-]+)\]")
LINK = re.compile(r"\[[^]\n]*\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:abstractllm|docs|tests)/[\w./-]+)`")


@dataclass(frozen=True)
class Block:
    """A fenced block: the words after the fence, its text, and the line of the page on which the text begins."""

    info: tuple[str, ...]
    text: str
    line: int

    def compiled(self, page: Path):
        """Return the code, with the lines of the page in its tracebacks."""
        return compile("\n" * (self.line - 1) + self.text, str(page), "exec", dont_inherit=True)


def split(text: str) -> tuple[list[Block], str]:
    """Return the blocks of a page, and the page without them."""
    blocks: list[Block] = []
    prose: list[str] = []
    fence, info, start, lines = "", (), 0, []
    for number, line in enumerate(text.splitlines(), 1):
        found = re.match(r"(`{3,})([^`]*)$", line)
        if fence and line == fence:
            blocks.append(Block(info, "".join(f"{one}\n" for one in lines), start))
            fence = ""
        elif fence:
            lines.append(line)
        elif found:
            fence, info, start, lines = found[1], tuple(found[2].split()), number + 1, []
        else:
            prose.append(line)
    assert not fence, f"the fence before line {start} is never closed"
    return blocks, "\n".join(prose)


def blocks_of(page: Path, *languages: str) -> list[Block]:
    blocks, _ = split(page.read_text(encoding="utf-8"))
    return [block for block in blocks if block.info[:1] and block.info[0] in languages]


def prose_of(page: Path) -> str:
    return split(page.read_text(encoding="utf-8"))[1]


def name_of(path: Path) -> str:
    return path.name


def need_libraries(path: Path) -> None:
    """Skip the test of a page or an example whose framework is not installed, which the usual run has."""
    if path.stem.startswith("langchain"):
        pytest.importorskip("langchain")


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


@pytest.fixture(autouse=True)
def _short_answers(monkeypatch):
    monkeypatch.setenv("ABSTRACTLLM_MLX_MAX_TOKENS", MAX_TOKENS)


@pytest.fixture(autouse=True)
def _logging_as_before():
    """A page may configure the package's log."""
    logger = logging.getLogger("abstractllm")
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.propagate = handlers, propagate
    logger.setLevel(level)


# Python.


@every_page
def test_python_blocks_run(page, tmp_path, monkeypatch):
    """The blocks of a page run in order in one namespace; classes of provider tests in it are run too."""
    need_libraries(page)
    module = ModuleType(f"page_{re.sub(r'[^a-z]', '_', page.stem.lower())}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.chdir(tmp_path)
    for block in blocks_of(page, "python"):
        code = block.compiled(page)
        if NO_RUN not in block.info:
            exec(code, module.__dict__)
    for kind in list(vars(module).values()):
        if isinstance(kind, type) and issubclass(kind, ProviderConformance) and kind is not ProviderConformance:
            run_conformance(kind)


def run_conformance(kind: type[ProviderConformance]) -> None:
    for name in dir(kind):
        if name.startswith("test_"):
            getattr(kind(), name)()


def test_info_strings_are_known():
    """A misspelt marker or language would quietly leave a block out."""
    known = {("python",), ("python", NO_RUN), ("bash",), ("console",), ("toml",), ("text",)}
    assert {block.info for page in PAGES for block in split(page.read_text(encoding="utf-8"))[0]} <= known


@every_page
def test_toml_blocks_are_toml(page):
    for block in blocks_of(page, "toml"):
        assert tomllib.loads(block.text)


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
def test_examples_run(example, tmp_path):
    """An example is a program: it ends by itself, without error, and says something."""
    need_libraries(example)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        input="Hello.\nWho are you?\n",
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()


def test_every_example_is_linked():
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [example.name for example in EXAMPLES if f"examples/{example.name}" not in pages] == []


# Translations.


class Wordless(ast.NodeTransformer):
    """Takes the texts out of code, which a translation may change."""

    def visit_Constant(self, node):
        return ast.Constant("") if isinstance(node.value, str) else node

    def visit_JoinedStr(self, node):
        return ast.JoinedStr([self.visit(part) for part in node.values if not isinstance(part, ast.Constant)])


def shape(block: Block) -> str:
    """Return what a block of a translated page has in common with that of the original."""
    return ast.dump(Wordless().visit(ast.parse(block.text))) if block.info[:1] == ("python",) else block.text


def outline(page: Path) -> list[str]:
    """Return the levels of a page's headings and a mark for each row of its tables, in order."""
    return re.findall(r"^#+|^\|(?=[^\n]*\|$)", prose_of(page), flags=re.MULTILINE)


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.pt.md")), ids=name_of)
def test_translations_have_the_same_code_and_outline(page):
    original = page.with_name(page.name.replace(".pt.md", ".md"))
    assert outline(page) == outline(original)
    blocks, theirs = (split(one.read_text(encoding="utf-8"))[0] for one in (page, original))
    assert [block.info for block in blocks] == [block.info for block in theirs]
    for block, other in zip(blocks, theirs, strict=True):
        assert shape(block) == shape(other), f"{page.name}:{block.line} is not {original.name}:{other.line}"


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ('print(f"Bom dia, {name}!", 1)  # diz', True),
        ('print(f"Good day, {named}!", 1)', False),
        ('print(f"Good day, {name}!", 2)', False),
        ('print("Good day!", 1)', False),
    ],
)
def test_other_code_in_a_translation_would_be_found(other, same):
    block = Block(("python",), 'print(f"Good day, {name}!", 1)', 1)
    assert (shape(Block(("python",), other, 1)) == shape(block)) == same


# Commands.


def commands_of(page: Path) -> Iterator[list[str]]:
    """Yield the words of each simple command in the shell blocks of a page; pipes and `&&` part commands."""
    for block in blocks_of(page, "bash", "console"):
        for line in block.text.splitlines():
            if block.info[0] == "console" and not line.startswith("$ "):
                continue
            yield from simple_commands(line.removeprefix("$ "))


def simple_commands(line: str) -> Iterator[list[str]]:
    words: list[str] = []
    for word in [*shlex.split(line, comments=True), "&&"]:
        if word in ("&&", "|", ";"):
            yield words
            words = []
        else:
            words.append(word)


def parse_command(arguments: list[str]) -> None:
    """Read arguments of `abstractllm` as it would, and run nothing. Raises click's errors."""
    command: click.Command = cli
    context = click.Context(cli, info_name="abstractllm")
    while isinstance(command, click.Group):
        name, *arguments = arguments or [""]
        found = command.get_command(context, name)
        assert found is not None, f"{command.name} has no command {name!r}"
        if isinstance(found, click.Group):
            context = click.Context(found, parent=context, info_name=name)
            command = found
            continue
        found.make_context(name, arguments, parent=context)
        return


@every_page
def test_commands_exist(page):
    """Each `abstractllm` command on a page has that name and takes those options."""
    for words in commands_of(page):
        if words[:1] == ["abstractllm"]:
            parse_command(words[1:])


@pytest.mark.parametrize("wrong", ["generat x", "generate --sytem x y", "generate --max-tokens many x", "models lst"])
def test_wrong_commands_would_be_found(wrong):
    with pytest.raises((click.ClickException, click.exceptions.Exit, AssertionError)):
        parse_command(shlex.split(wrong))


def test_commands_print_what_is_shown():
    """Where a page shows what a command prints, it prints that, white space at the ends of lines aside."""
    shown = [
        session
        for page in PAGES
        for block in blocks_of(page, "console")
        for session in sessions(block.text)
        if session[1]
    ]
    assert shown
    for command, output in shown:
        [words] = simple_commands(command)
        assert words[0] == "abstractllm"
        printed = CliRunner().invoke(cli, words[1:], input="").output
        assert [line.rstrip() for line in printed.splitlines()] == output.splitlines()


def sessions(text: str) -> list[tuple[str, str]]:
    """Return the commands of a console block, each with the lines below it."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


@every_page
def test_scripts_exist(page):
    """A script that a page starts is there and knows the options."""
    for words in commands_of(page):
        found = SCRIPT.match(shlex.join(words))
        if found:
            source = (ROOT / found[1]).read_text(encoding="utf-8")
            assert [option for option in re.findall(r"--[\w-]+", found[2]) if f'"{option}"' not in source] == []


@every_page
def test_extras_exist(page):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    named = {extra for found in EXTRAS.findall(page.read_text(encoding="utf-8")) for extra in found.split(",")}
    assert named <= set(setup["options.extras_require"])


# Links.


def slugs(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    """Return the links of a page that lead to no file or heading; addresses on the web are not followed."""
    broken = []
    for link in LINK.findall(prose_of(page)):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in slugs(target)):
            broken.append(link)
    return broken


@every_page
def test_links_lead_somewhere(page):
    assert broken_links(page) == []


def test_broken_links_would_be_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One thing\n[a](no.md) [b](#one-thing) [c](#two) [d](page.md#three) [e](page.md)\n")
    assert broken_links(page) == ["no.md", "#two", "page.md#three"]


@every_page
def test_named_files_exist(page):
    assert [name for name in NAMED_FILE.findall(prose_of(page)) if not (ROOT / name).exists()] == []


def test_every_page_is_linked_from_the_readme():
    links = LINK.findall(prose_of(ROOT / "README.md"))
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in links] == []


# Lists.


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def test_readme_opens_with_the_commands_that_are_checked():
    """One sentence, then the commands; the continuous integration runs the second one."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    first, *_ = text.partition("\n\n")
    assert first.endswith(".")
    assert first.count(".") == 1
    shell = [block.text.strip() for block in blocks_of(ROOT / "README.md", "bash")]
    assert shell[:2] == [
        'pip install -e ".[mlx]" && abstractllm generate "What can you do?"',
        "pip install tox && tox",
    ]
    assert shell[1] in (ROOT / ".ci/run").read_text(encoding="utf-8")


ANSWERS = {True: "yes", False: "no", None: "depends on the model"}
ANYWHERE = {"azure", "compatible"}
"""Providers without an address of their own."""


def code(text: str | None) -> str:
    return f"`{text}`" if text else ""


def names_of(kind: type[BaseProvider]) -> list[tuple[str, str]]:
    """Return the rows of a provider's table that its class alone tells."""
    return [(word, " ".join(map(code, sorted(getattr(kind, word)))) or "none") for word in ("parameters", "options")]


def table_of(kind: type[BaseProvider]) -> str:
    """Return what `docs/providers.md` has to show of a provider, as the provider itself says it."""
    rows = []
    with kind({"base_url": "http://there"} if kind.name in ANYWHERE else None) as llm:
        if isinstance(llm, HTTPProvider):
            address = "must be given, as `base_url`" if kind.name in ANYWHERE else code(llm._endpoint.base_url)
            rows += [("key", code(llm.key_variable) or "none"), ("address", address)]
        must = isinstance(llm, HTTPProvider) or llm.missing() is not None
        own = "must be given" if must else "the one that ships with the package"
        rows += [("model", code(kind.defaults.get("model")) or own)]
        can = llm.get_capabilities()
        rows += [(word, ANSWERS[can.get(capability, False)]) for capability, word in SHOWN.items()]
    return "\n".join(["| | |", "|---|---|", *(f"| {left} | {right} |" for left, right in rows + names_of(kind))])


@pytest.fixture
def _no_services(monkeypatch):
    for name in ("OLLAMA_HOST", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_no_services")
@pytest.mark.parametrize("name", [info.name for info in list_providers() if info.distribution == DISTRIBUTION])
def test_every_provider_has_its_table(name):
    """PyTorch is not there in the usual run, so that of its provider only the names are looked at."""
    if name == "langchain":
        pytest.importorskip("langchain_core")
    sections = re.split(r"^### ", page("providers.md"), flags=re.MULTILINE)
    [section] = [section for section in sections if section.startswith(f"`{name}`")]
    if name == "huggingface":
        assert all(f"| {word} | {names} |" in section for word, names in names_of(HuggingFaceProvider))
    else:
        assert table_of(get_provider_class(name)) in section


def test_every_error_is_in_the_tree():
    kinds = {
        kind.__name__: kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.AbstractLLMError)
    }
    shown = dict(re.findall(r"(\w+Error) +(\d)(?: |$)", page("errors.md"), flags=re.MULTILINE))
    assert shown == {name: str(kind.exit_code) for name, kind in kinds.items()}


def test_exit_codes_are_those_of_the_command():
    rows = dict(re.findall(r"^\| (\d+) \| (.*) \|$", page("cli.md"), flags=re.MULTILINE))
    assert rows == {str(code): meaning for code, meaning in EXIT_CODES.items()}


def test_every_command_and_option_is_described():
    text = page("cli.md")
    context = click.Context(cli)
    for name in cli.list_commands(context):
        assert f"abstractllm {name}" in text
    generate = cli.get_command(context, "generate")
    options = [option for one in generate.params if isinstance(one, click.Option) for option in one.opts]
    assert [option for option in options if f"`{option}`" not in text] == []
    assert [command for command in CHAT_COMMANDS if f"`{command}" not in text] == []


def test_every_parameter_is_described():
    text = page("configuration.md")
    assert [name for name in CHECKS if f"`{name}`" not in text] == []


def test_every_variable_is_described():
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    names = set(re.findall(r"ABSTRACTLLM_[A-Z_]*[A-Z]", source))
    assert [name for name in sorted(names) if f"`{name}`" not in page("configuration.md")] == []


def test_every_module_is_described():
    modules = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")}
    rows = re.findall(r"^\| (`.*?) \|", page("architecture.md"), flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert {name for name in named if name.endswith(".py")} == modules
    assert [name for name in named if not (PACKAGE / name).exists()] == []


def test_the_changelog_begins_with_this_version():
    assert re.findall(r"^## \[(.*?)\]", page("changelog.md"), flags=re.MULTILINE)[0] == abstractllm.__version__


def test_a_fence_may_hold_fences():
    blocks, prose = split("a\n````text\n```python\n1\n```\n````\nb\n```python no-run\n2\n```\n")
    assert blocks == [Block(("text",), "```python\n1\n```\n", 3), Block(("python", "no-run"), "2\n", 9)]
    assert prose == "a\nb"


def test_numbers_are_those_of_the_code():
    mlx, files, batching = page("mlx.md"), page("files-and-tools.md"), page("batching.md")
    limits = Limits()
    assert f"`max_tokens` is {MLX_MAX_TOKENS} where" in mlx
    assert f"up to {limits.prefill_rows} prompts at a time: {limits.prefill_step} tokens" in batching
    assert f"up to {limits.prefill_tokens} tokens in all" in batching
    assert f"up to {limits.rows} running requests" in batching
    assert f"up to {limits.burst * 1000:g} ms" in batching
    assert f"up to {MAX_TEXT_BYTES // 2**20} MiB" in files
    assert f"up to {MAX_BYTES // 2**20} MiB" in files


def test_eleven_lines_are_eleven():
    first = blocks_of(DOCS / "writing-a-provider.md", "python")[0]
    assert len([line for line in first.text.splitlines() if line.strip()]) == 11
