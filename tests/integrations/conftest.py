"""What the tests of integrations need; tests of a framework that is not installed are not collected."""

from __future__ import annotations

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("langchain_tests") else ["test_langchain*"]
