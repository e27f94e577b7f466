"""LangChain's chat models and embeddings on any provider of this package. Needs the extra `langchain`.

Importing this package without langchain-core raises MissingDependencyError, which says what to install.
"""

from __future__ import annotations

from abstractllm.errors import MissingDependencyError, install_command

try:
    import langchain_core
except ImportError as error:
    raise MissingDependencyError(
        f"LangChain's models need langchain-core, which is not installed: {install_command('langchain')}"
    ) from error

from abstractllm.integrations.langchain.chat import ChatAbstractLLM
from abstractllm.integrations.langchain.embeddings import AbstractLLMEmbeddings
from abstractllm.integrations.langchain.models import ChatMaritaca, ChatMLX

__all__ = ["AbstractLLMEmbeddings", "ChatAbstractLLM", "ChatMLX", "ChatMaritaca"]

del langchain_core
