"""The exception tree. Every error that this package raises on purpose is an `AbstractLLMError`.

    AbstractLLMError
    ├── ConfigurationError              a config string, profile, file or environment variable is wrong
    │   ├── UnsupportedProviderError    no provider has this name
    │   ├── PluginError                 a provider's package is broken, ambiguous or of another API version
    │   └── MissingDependencyError      a library is not installed (also an ImportError)
    ├── InvalidRequestError             the request cannot be right, whoever serves it (also a ValueError)
    │   ├── InvalidParameterError       a parameter is unknown or out of its range
    │   ├── ContextWindowExceededError  prompt and answer do not fit into the model's context
    │   ├── FileProcessingError         a file cannot be attached
    │   │   └── ImageProcessingError    an image cannot be attached
    │   └── ToolArgumentError           a tool cannot be called with these arguments
    ├── UnsupportedFeatureError         this provider or model cannot do what was asked
    ├── UnsupportedOperationError       this call is not possible in the present state (closed, forked, wrong thread)
    ├── ModelError                      the model cannot be used
    │   ├── ModelNotFoundError          it is nowhere to be found
    │   ├── ModelLoadingError           it was found, and loading it failed
    │   └── UnsupportedModelError       it was found, and it is of a kind that cannot run
    ├── ProviderAPIError                a remote service answered with an error
    │   ├── AuthenticationError         the key is missing, wrong or not allowed to do this
    │   ├── QuotaExceededError          too many requests
    │   │   └── SpentQuotaError         the account has nothing left: waiting does not help
    │   ├── ContentFilterError          the service refused the content
    │   └── ProviderConnectionError     the service could not be reached, or the connection broke
    ├── GenerationError                 generating failed after it had begun
    │   ├── IncompleteOutputError       a constrained answer was cut off
    │   └── OutputValidationError       the answer does not have the form that was asked for
    ├── AgentError                      a run of an agent cannot go on
    │   ├── RunLimitError               it used up one of its limits
    │   └── ToolError                   a tool failed, where that is not for the model to read
    ├── RequestTimeoutError             a deadline passed (also a TimeoutError)
    ├── MemoryLimitError                one request alone needs more memory than there may be (also a MemoryError)
    ├── QueueFullError                  the waiting line is full
    └── SessionStoreError               what keeps sessions cannot be used: no database, newer, damaged, full, locked
        ├── SessionNotFoundError        it has no session of this id
        └── SessionConflictError        another writer was faster

Messages say what happened and what to do next. Causes are chained. No message holds a key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from abstractllm.agent.result import Result
    from abstractllm.types import GenerateResponse

DISTRIBUTION = "abstractllm-mlx"
"""Name to install this package by; every install hint is made from it."""


def install_command(extra: str) -> str:
    """Return the shell command that installs this package with one extra, such as `"mlx"`."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the known name nearest to `name`, or an empty string."""
    import difflib

    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""


def shown(value: object) -> str:
    """Return a value as it looks in code, at most 80 characters of it, for use in a message."""
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):  # an integer of thousands of digits, or a value inside itself too often
        return f"a {type(value).__name__} that is too long to show"


class AbstractLLMError(Exception):
    """Base of every error in this package.

    `message` is the text without the provider's name, `provider` the name or None. `str(error)` is
    `"[provider] message"`. `exit_code` is what the command line returns for it. `exceptions` are the errors of the
    backends that were asked before, where there were several to ask.
    """

    exit_code = 1
    exceptions: tuple[AbstractLLMError, ...] = ()

    def __init__(self, message: str, *, provider: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.provider = provider

    def __str__(self) -> str:
        return f"[{self.provider}] {self.message}" if self.provider else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Take copies and pickles past `__init__`, whose arguments differ from class to class."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[AbstractLLMError], args: tuple[Any, ...], attributes: dict[str, Any]) -> AbstractLLMError:
    built_in: type = kind  # whose memory layout the class has; Python refuses every other one's `__new__`
    while built_in.__module__ != "builtins":
        built_in = built_in.__base__ or object
    error: AbstractLLMError = built_in.__new__(kind, *args)
    super(AbstractLLMError, error).__init__(*args)
    error.__dict__.update(attributes)
    return error


class ConfigurationError(AbstractLLMError):
    """A config string, profile, config file or environment variable is wrong."""

    exit_code = 3


class UnsupportedProviderError(ConfigurationError, ValueError):
    """No installed package offers a provider of this name."""


class PluginError(ConfigurationError):
    """A provider's package cannot be used: broken, claimed twice, or made for another API version."""


class MissingDependencyError(ConfigurationError, ImportError):
    """A library that this feature needs is not installed; the message holds the install command."""


class InvalidRequestError(AbstractLLMError, ValueError):
    """The request cannot be right, whichever provider serves it."""

    exit_code = 2


class InvalidParameterError(InvalidRequestError):
    """A parameter is unknown or its value is out of range. `parameter` is its name."""

    def __init__(self, parameter: str, message: str, *, provider: str | None = None) -> None:
        super().__init__(message, provider=provider)
        self.parameter = parameter


class ContextWindowExceededError(InvalidRequestError):
    """Prompt and answer do not fit. `context_window` and `prompt_tokens` are counts of tokens."""

    def __init__(self, message: str, *, context_window: int, prompt_tokens: int, provider: str | None = None) -> None:
        super().__init__(message, provider=provider)
        self.context_window = context_window
        self.prompt_tokens = prompt_tokens


class FileProcessingError(InvalidRequestError):
    """A file cannot be attached. `path` is the file as it was given."""

    def __init__(self, message: str, *, path: str, provider: str | None = None) -> None:
        super().__init__(message, provider=provider)
        self.path = path


class ImageProcessingError(FileProcessingError):
    """An image cannot be attached."""


class ToolArgumentError(InvalidRequestError):
    """Arguments do not fit a tool's parameters. `tool` is its name, `problems` what is wrong, one line each."""

    def __init__(self, tool: str, problems: Iterable[str], *, provider: str | None = None) -> None:
        self.tool = tool
        self.problems = tuple(problems)
        lines = "".join(f"\n- {problem}" for problem in self.problems)
        super().__init__(f"The arguments do not fit the tool {tool!r}; correct them:{lines}", provider=provider)


class UnsupportedFeatureError(AbstractLLMError):
    """The provider or model cannot do what was asked. `feature` is the parameter or capability."""

    exit_code = 2

    def __init__(self, feature: str, message: str, *, provider: str | None = None) -> None:
        super().__init__(message, provider=provider)
        self.feature = feature


class UnsupportedOperationError(AbstractLLMError, RuntimeError):
    """The call is not possible in the present state: closed, forked, or from the wrong thread."""


class ModelError(AbstractLLMError):
    """The model cannot be used."""

    exit_code = 4


class ModelNotFoundError(ModelError):
    """The model is nowhere to be found. `searched` lists where it was looked for."""

    def __init__(self, message: str, *, searched: Iterable[str] = (), provider: str | None = None) -> None:
        super().__init__(message, provider=provider)
        self.searched = tuple(searched)


class ModelLoadingError(ModelError):
    """The model was found, and loading it failed."""


class UnsupportedModelError(ModelError):
    """The model was found, and it is of a kind that cannot run here."""


class ProviderAPIError(AbstractLLMError):
    """A remote service answered with an error.

    `status_code` is HTTP's, `request_id` the service's own, `retry_after` seconds; each may be None.
    """

    exit_code = 5

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        status_code: int | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, provider=provider)
        self.status_code = status_code
        self.request_id = request_id
        self.retry_after = retry_after


class AuthenticationError(ProviderAPIError):
    """The key is missing, wrong, or not allowed to do this."""


class QuotaExceededError(ProviderAPIError):
    """Too many requests, or too many tokens, in too short a time."""


class SpentQuotaError(QuotaExceededError):
    """The account has nothing left to spend; unlike "too many requests", waiting does not help."""


class ContentFilterError(ProviderAPIError):
    """The service refused the content."""


class ProviderConnectionError(ProviderAPIError):
    """The service could not be reached, or the connection broke before the answer's end."""


class GenerationError(AbstractLLMError):
    """Generating failed after it had begun. `response` is what had arrived, or None."""

    exit_code = 6

    def __init__(
        self,
        message: str,
        *,
        response: GenerateResponse | None = None,
        provider: str | None = None,
    ) -> None:
        super().__init__(message, provider=provider)
        self.response = response


class IncompleteOutputError(GenerationError):
    """A constrained answer was cut off by `max_tokens`; `response` holds its beginning."""


class OutputValidationError(GenerationError):
    """The answer does not have the form that was asked for; `response` holds it."""


class AgentError(AbstractLLMError):
    """A run of an agent cannot go on."""

    exit_code = 6


class RunLimitError(AgentError):
    """A run used up one of its limits. `result` is what it had come to."""

    def __init__(self, message: str, *, result: Result[Any] | None = None, provider: str | None = None) -> None:
        super().__init__(message, provider=provider)
        self.result = result


class ToolError(AgentError):
    """A tool failed or could not be called, where that ends the run. `tool` is its name, the cause what it raised."""

    def __init__(self, tool: str, message: str, *, provider: str | None = None) -> None:
        super().__init__(f"The tool {tool!r} failed: {message}", provider=provider)
        self.tool = tool


class RequestTimeoutError(AbstractLLMError, TimeoutError):
    """A deadline passed. `limit` is the one of `Timeout` that did, such as `"total"`."""

    exit_code = 7

    def __init__(self, message: str, *, limit: str, provider: str | None = None) -> None:
        super().__init__(message, provider=provider)
        self.limit = limit


class MemoryLimitError(AbstractLLMError, MemoryError):
    """One request alone needs more memory than it may have."""

    exit_code = 6


class QueueFullError(AbstractLLMError):
    """The waiting line is full; try again later, or raise `max_queue`."""

    exit_code = 8


class SessionStoreError(AbstractLLMError):
    """What keeps sessions cannot be used: it is no database, of a newer version, damaged, full, or locked too long.

    `result` is what a turn had come to that could not be kept, None where there was none.
    """

    result: Result[Any] | None = None


class SessionNotFoundError(SessionStoreError):
    """The store has no session of this id."""


class SessionConflictError(SessionStoreError):
    """Another writer was faster. `length` is how many messages the session has now, None where the id was taken."""

    def __init__(self, message: str, *, length: int | None = None, provider: str | None = None) -> None:
        super().__init__(message, provider=provider)
        self.length = length
