"""LangChain's chat models and embeddings on any provider of this package. Needs the extra `langchain`.

Importing this package without langchain-core raises MissingDependencyError, which says what to install.
"""

from __future__ import annotations

from abstractllm.errors import MissingDependencyError, install_command

try:
    import langchain_core.tracers.langchain
except ImportError as error:
    raise MissingDependencyError(
        f"LangChain's models need langchain-core, which is not installed: {install_command('langchain')}"
    ) from error

from abstractllm.integrations.langchain.callbacks import CombinedCallback, CostTrackingCallback
from abstractllm.integrations.langchain.chat import ChatAbstractLLM
from abstractllm.integrations.langchain.deepinfra import DeepInfraEmbeddings
from abstractllm.integrations.langchain.embeddings import AbstractLLMEmbeddings
from abstractllm.integrations.langchain.fitting import ContextUsageWarning
from abstractllm.integrations.langchain.latency import LatencyTrackingCallback, TokenStreamingCallback
from abstractllm.integrations.langchain.models import ChatMaritaca, ChatMLX
from abstractllm.integrations.langchain.provider import LangChainProvider
from abstractllm.schema import check_sound

__all__ = [
    "AbstractLLMEmbeddings",
    "ChatAbstractLLM",
    "ChatMLX",
    "ChatMaritaca",
    "CombinedCallback",
    "ContextUsageWarning",
    "CostTrackingCallback",
    "DeepInfraEmbeddings",
    "LangChainProvider",
    "LatencyTrackingCallback",
    "TokenStreamingCallback",
]

# Libraries that are otherwise imported by the first call, and then on its event loop: LangChain's tracers above, and
# what checks the schemas of tools.
check_sound("tools", "The schema", "{}")

del langchain_core
