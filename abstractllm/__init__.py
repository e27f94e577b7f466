"""One interface to every language model, sync and async, and the best way to run one in-process on MLX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PLACES = {
    "abstractllm.capabilities": ("Capabilities", "ModelCapability"),
    "abstractllm.errors": (
        "AbstractLLMError",
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
        "UnsupportedFeatureError",
        "UnsupportedModelError",
        "UnsupportedOperationError",
        "UnsupportedProviderError",
    ),
    "abstractllm.factory": ("create_llm",),
    "abstractllm.interface": ("AbstractLLMInterface",),
    "abstractllm.parameters": ("ModelParameter",),
    "abstractllm.registry": ("list_providers", "register_provider"),
    "abstractllm.streams": ("AsyncResponseStream", "ResponseStream"),
    "abstractllm.types": (
        "DocumentPart",
        "GenerateRequest",
        "GenerateResponse",
        "ImagePart",
        "Message",
        "TextPart",
        "Timeout",
        "Timings",
        "ToolCall",
        "ToolCallDelta",
        "ToolDefinition",
        "Usage",
    ),
}
