"""What broke between here and an MCP server -> the errors of this package, with the cause chained."""

from __future__ import annotations

from abstractllm.agent.mcp.places import Command, Place
from abstractllm.errors import (
    AbstractLLMError,
    AuthenticationError,
    ProviderAPIError,
    ProviderConnectionError,
    RequestTimeoutError,
    UnsupportedOperationError,
)

_LONGEST = 500
"""Characters of an error of the SDK that a message here holds; there is a line in it for each tool, at times."""


def root(error: BaseException) -> BaseException:
    """Return what is in the groups that the SDK's task groups wrap an error in."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def not_opened(place: Place, error: BaseException | None, status: int | None) -> AbstractLLMError:
    """Return why there is no session. `status` is the last bad status over HTTP, or None."""
    if isinstance(error, AbstractLLMError):
        return error
    label, why = place.label, _because(error)
    if isinstance(place, Command):
        way = "could not be started" if isinstance(error, OSError) else "was started, but no session began"
        made: AbstractLLMError = ProviderConnectionError(f"The MCP server {label!r} {way}{why}; see its stderr.")
    elif status in (401, 403):
        message = f"The MCP server {label!r} wants other credentials; pass them in the server's 'headers'."
        made = AuthenticationError(message, status_code=status)
    else:
        at = f", and its last HTTP status was {status}" if status else ""
        message = f"The MCP server {label!r} opened no session{at}{why}; check its address."
        made = ProviderConnectionError(message, status_code=status)
    return _caused(made, error)


def ended(place: Place, error: BaseException | None) -> AbstractLLMError:
    """Return that a session has come to an end which nobody here asked for."""
    message = (
        f"The connection to the MCP server {place.label!r} has ended{_because(error)}; leave its block and enter it"
        " again to start a new session."
    )
    return _caused(ProviderConnectionError(message), error)


def left(place: Place) -> AbstractLLMError:
    """Return that a session was ended from here."""
    return UnsupportedOperationError(
        f"The block of the MCP server {place.label!r} was left, and its session ended; call its tools inside the block."
    )


def refused(place: Place, tool: str, error: BaseException) -> AbstractLLMError:
    """Return that a server answered a call with an error of the protocol."""
    return _caused(ProviderAPIError(f"The MCP server {place.label!r} refused the call of {tool!r}: {error}"), error)


def broken_off(place: Place, tool: str, error: BaseException) -> AbstractLLMError:
    """Return that the answer to one call did not come to its end, while the session may go on."""
    message = f"The MCP server {place.label!r} broke off its answer to the call of {tool!r}: {error}"
    return _caused(ProviderConnectionError(message), error)


def unusable(place: Place, tool: str, error: BaseException) -> AbstractLLMError:
    """Return that a result breaks the protocol, or what the server itself says of its tool's results."""
    return _caused(
        ProviderAPIError(f"The MCP server {place.label!r} gave no usable result of {tool!r}: {error}"), error
    )


def late(place: Place, what: str, seconds: float | None, limit: str) -> RequestTimeoutError:
    """Return that a deadline passed; `limit` as in RequestTimeoutError."""
    message = f"The MCP server {place.label!r} {what} within {seconds:g} s; pass a longer timeout."
    return RequestTimeoutError(message, limit=limit)


def _because(error: BaseException | None) -> str:
    return "" if error is None else f" ({type(error).__name__}: {str(error)[:_LONGEST]})"


def _caused(made: AbstractLLMError, error: BaseException | None) -> AbstractLLMError:
    made.__cause__ = error
    return made
