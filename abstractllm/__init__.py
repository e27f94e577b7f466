"""One interface to every language model, sync and async, and the best way to run one in-process on MLX.

The public names, each loaded when it is first used: importing this package imports nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from abstractllm.agent import (
        Agent as Agent,
        Answer as Answer,
        Limits as Limits,
        Reply as Reply,
        Result as Result,
        Run as Run,
    )
    from abstractllm.agent.mcp import mcp_tools as mcp_tools, serve_tools as serve_tools
    from abstractllm.batch import BatchItem as BatchItem, BatchProgress as BatchProgress
    from abstractllm.capabilities import Capabilities as Capabilities, ModelCapability as ModelCapability
    from abstractllm.errors import (
        AbstractLLMError as AbstractLLMError,
        AgentError as AgentError,
        AuthenticationError as AuthenticationError,
        ConfigurationError as ConfigurationError,
        ContentFilterError as ContentFilterError,
        ContextWindowExceededError as ContextWindowExceededError,
        FileProcessingError as FileProcessingError,
        GenerationError as GenerationError,
        ImageProcessingError as ImageProcessingError,
        IncompleteOutputError as IncompleteOutputError,
        InvalidParameterError as InvalidParameterError,
        InvalidRequestError as InvalidRequestError,
        MemoryLimitError as MemoryLimitError,
        MissingDependencyError as MissingDependencyError,
        ModelError as ModelError,
        ModelLoadingError as ModelLoadingError,
        ModelNotFoundError as ModelNotFoundError,
        OutputValidationError as OutputValidationError,
        PluginError as PluginError,
        ProviderAPIError as ProviderAPIError,
        ProviderConnectionError as ProviderConnectionError,
        QueueFullError as QueueFullError,
        QuotaExceededError as QuotaExceededError,
        RequestTimeoutError as RequestTimeoutError,
        RunLimitError as RunLimitError,
        SessionConflictError as SessionConflictError,
        SessionNotFoundError as SessionNotFoundError,
        SessionStoreError as SessionStoreError,
        SpentQuotaError as SpentQuotaError,
        ToolArgumentError as ToolArgumentError,
        ToolError as ToolError,
        UnsupportedFeatureError as UnsupportedFeatureError,
        UnsupportedModelError as UnsupportedModelError,
        UnsupportedOperationError as UnsupportedOperationError,
        UnsupportedProviderError as UnsupportedProviderError,
    )
    from abstractllm.factory import create_llm as create_llm
    from abstractllm.fallback import FallbackLLM as FallbackLLM
    from abstractllm.interface import AbstractLLMInterface as AbstractLLMInterface
    from abstractllm.observing.metrics import Metrics as Metrics
    from abstractllm.observing.redaction import (
        RedactingFilter as RedactingFilter,
        configure_logging as configure_logging,
    )
    from abstractllm.observing.secrets import redact as redact
    from abstractllm.observing.tracing import Tracing as Tracing
    from abstractllm.parameters import ModelParameter as ModelParameter
    from abstractllm.providers.http.fetching import fetch_file as fetch_file, fetch_file_async as fetch_file_async
    from abstractllm.registry import (
        ProviderInfo as ProviderInfo,
        list_providers as list_providers,
        register_provider as register_provider,
    )
    from abstractllm.schema import Grammar as Grammar, Regex as Regex
    from abstractllm.session import (
        Session as Session,
        SessionInfo as SessionInfo,
        SessionStore as SessionStore,
        SQLiteStore as SQLiteStore,
    )
    from abstractllm.streams import AsyncResponseStream as AsyncResponseStream, ResponseStream as ResponseStream
    from abstractllm.tools.classes import BaseTool as BaseTool
    from abstractllm.tools.context import StopRun as StopRun, ToolContext as ToolContext, ToolRetry as ToolRetry
    from abstractllm.tools.decorator import tool as tool
    from abstractllm.tools.tool import Tool as Tool
    from abstractllm.types import (
        DocumentPart as DocumentPart,
        GenerateRequest as GenerateRequest,
        GenerateResponse as GenerateResponse,
        ImagePart as ImagePart,
        Message as Message,
        TextPart as TextPart,
        Timeout as Timeout,
        Timings as Timings,
        TokenLogprob as TokenLogprob,
        ToolCall as ToolCall,
        ToolCallDelta as ToolCallDelta,
        ToolDefinition as ToolDefinition,
        Usage as Usage,
    )

__version__ = "0.1.0"

__all__ = [
    "AbstractLLMError",
    "AbstractLLMInterface",
    "Agent",
    "AgentError",
    "Answer",
    "AsyncResponseStream",
    "AuthenticationError",
    "BaseTool",
    "BatchItem",
    "BatchProgress",
    "Capabilities",
    "ConfigurationError",
    "ContentFilterError",
    "ContextWindowExceededError",
    "DocumentPart",
    "FallbackLLM",
    "FileProcessingError",
    "GenerateRequest",
    "GenerateResponse",
    "GenerationError",
    "Grammar",
    "ImagePart",
    "ImageProcessingError",
    "IncompleteOutputError",
    "InvalidParameterError",
    "InvalidRequestError",
    "Limits",
    "MemoryLimitError",
    "Message",
    "Metrics",
    "MissingDependencyError",
    "ModelCapability",
    "ModelError",
    "ModelLoadingError",
    "ModelNotFoundError",
    "ModelParameter",
    "OutputValidationError",
    "PluginError",
    "ProviderAPIError",
    "ProviderConnectionError",
    "ProviderInfo",
    "QueueFullError",
    "QuotaExceededError",
    "RedactingFilter",
    "Regex",
    "Reply",
    "RequestTimeoutError",
    "ResponseStream",
    "Result",
    "Run",
    "RunLimitError",
    "SQLiteStore",
    "Session",
    "SessionConflictError",
    "SessionInfo",
    "SessionNotFoundError",
    "SessionStore",
    "SessionStoreError",
    "SpentQuotaError",
    "StopRun",
    "TextPart",
    "Timeout",
    "Timings",
    "TokenLogprob",
    "Tool",
    "ToolArgumentError",
    "ToolCall",
    "ToolCallDelta",
    "ToolContext",
    "ToolDefinition",
    "ToolError",
    "ToolRetry",
    "Tracing",
    "UnsupportedFeatureError",
    "UnsupportedModelError",
    "UnsupportedOperationError",
    "UnsupportedProviderError",
    "Usage",
    "__version__",
    "configure_logging",
    "create_llm",
    "fetch_file",
    "fetch_file_async",
    "list_providers",
    "mcp_tools",
    "redact",
    "register_provider",
    "serve_tools",
    "tool",
]

_PLACES = {
    "abstractllm.agent": ("Agent", "Answer", "Limits", "Reply", "Result", "Run"),
    "abstractllm.agent.mcp": ("mcp_tools", "serve_tools"),
    "abstractllm.batch": ("BatchItem", "BatchProgress"),
    "abstractllm.capabilities": ("Capabilities", "ModelCapability"),
    "abstractllm.errors": (
        "AbstractLLMError",
        "AgentError",
        "AuthenticationError",
        "ConfigurationError",
        "ContentFilterError",
        "ContextWindowExceededError",
        "FileProcessingError",
        "GenerationError",
        "ImageProcessingError",
        "IncompleteOutputError",
        "InvalidParameterError",
        "InvalidRequestError",
        "MemoryLimitError",
        "MissingDependencyError",
        "ModelError",
        "ModelLoadingError",
        "ModelNotFoundError",
        "OutputValidationError",
        "PluginError",
        "ProviderAPIError",
        "ProviderConnectionError",
        "QueueFullError",
        "QuotaExceededError",
        "RequestTimeoutError",
        "RunLimitError",
        "SessionConflictError",
        "SessionNotFoundError",
        "SessionStoreError",
        "SpentQuotaError",
        "ToolArgumentError",
        "ToolError",
        "UnsupportedFeatureError",
        "UnsupportedModelError",
        "UnsupportedOperationError",
        "UnsupportedProviderError",
    ),
    "abstractllm.factory": ("create_llm",),
    "abstractllm.fallback": ("FallbackLLM",),
    "abstractllm.interface": ("AbstractLLMInterface",),
    "abstractllm.observing.metrics": ("Metrics",),
    "abstractllm.observing.redaction": ("RedactingFilter", "configure_logging"),
    "abstractllm.observing.secrets": ("redact",),
    "abstractllm.observing.tracing": ("Tracing",),
    "abstractllm.parameters": ("ModelParameter",),
    "abstractllm.providers.http.fetching": ("fetch_file", "fetch_file_async"),
    "abstractllm.registry": ("ProviderInfo", "list_providers", "register_provider"),
    "abstractllm.schema": ("Grammar", "Regex"),
    "abstractllm.session": ("SQLiteStore", "Session", "SessionInfo", "SessionStore"),
    "abstractllm.streams": ("AsyncResponseStream", "ResponseStream"),
    "abstractllm.tools.classes": ("BaseTool",),
    "abstractllm.tools.context": ("StopRun", "ToolContext", "ToolRetry"),
    "abstractllm.tools.decorator": ("tool",),
    "abstractllm.tools.tool": ("Tool",),
    "abstractllm.types": (
        "DocumentPart",
        "GenerateRequest",
        "GenerateResponse",
        "ImagePart",
        "Message",
        "TextPart",
        "Timeout",
        "Timings",
        "TokenLogprob",
        "ToolCall",
        "ToolCallDelta",
        "ToolDefinition",
        "Usage",
    ),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load the module of a public name and return what the name stands for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    found: object = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names beside those that every module has."""
    return sorted({*globals(), *__all__})
