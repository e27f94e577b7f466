"""What a wire format cannot say is refused here, never left out in silence. Knows no format."""

from __future__ import annotations

from collections.abc import Container

from abstractllm.errors import UnsupportedFeatureError
from abstractllm.types import GenerateRequest, given_parameters


def refusal(feature: str, what: str, provider: str) -> UnsupportedFeatureError:
    """Return the error for a feature; `what` completes "The wire format ..."."""
    return UnsupportedFeatureError(feature, f"The wire format of this service {what}.", provider=provider)


def refuse_parameters(request: GenerateRequest, names: Container[str], provider: str) -> None:
    """Raise UnsupportedFeatureError for the first of these parameters that the request gives."""
    for name in given_parameters(request):
        if name in names:
            raise refusal(name, f"has no place for the parameter {name!r}; leave it out", provider)


def refuse_names(request: GenerateRequest, provider: str) -> None:
    """Raise UnsupportedFeatureError for a turn whose speaker has a name, where a format knows only tools' names."""
    for number, message in enumerate(request.messages):
        if message.name is not None and message.role != "tool":
            what = f"has no place for the name of messages[{number}]; leave it out, or say it in the text"
            raise refusal("name", what, provider)
