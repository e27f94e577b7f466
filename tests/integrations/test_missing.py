"""Without a framework, the package works, and its integration says what to install."""

from __future__ import annotations

from typing import Any

BLOCKED = """
import sys
sys.modules["langchain_core"] = None
from abstractllm import MissingDependencyError, create_llm
try:
    import abstractllm.integrations.langchain
except MissingDependencyError as error:
    print(error)
print(create_llm("echo").generate("Hello"))
"""


def test_langchain_is_missing(run_python: Any) -> None:
    told, answer = run_python(BLOCKED).splitlines()
    assert 'pip install "abstractllm-mlx[langchain]"' in told
    assert answer == "Hello"


def test_nothing_but_the_integration_loads_langchain(run_python: Any) -> None:
    program = (
        "import sys, abstractllm, abstractllm.integrations\n"
        "from abstractllm import *\n"
        "create_llm('echo').generate('Hello')\n"
        "print([name for name in sys.modules if name.startswith('langchain')])"
    )
    assert run_python(program).strip() == "[]"
