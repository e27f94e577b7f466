"""How OpenAI's Chat Completions of one service are asked for a form: by its field, by a tool, or by the prompt."""

from __future__ import annotations

from abstractllm.types import GenerateRequest
from abstractllm.wire.asking import Asking, Way
from abstractllm.wire.codec import Codec
from abstractllm.wire.dialects import rooted
from abstractllm.wire.openai_chat_request import ChatQuirks
from abstractllm.wire.openai_facts import is_any_object


def codec_for(chat: Codec, request: GenerateRequest, quirks: ChatQuirks) -> Codec:
    """Return the codec for one request: `chat`, or one around it that asks for the form in another way."""
    way = way_of(request, quirks)
    return chat if way is None else Asking(chat, way, request, by_name=quirks.named_tool)


def way_of(request: GenerateRequest, quirks: ChatQuirks) -> Way | None:
    """Return how a form is asked for; None for the service's own field, which may refuse it."""
    form = request.response_format
    if form is None or form.kind != "json":
        return None
    is_object = rooted(form.schema) is not None
    if quirks.schemas == "tool" or _clashes(request, quirks):
        return "tool" if is_object else "prompt"
    if quirks.schemas is None:
        return "prompt"
    if is_any_object(form):
        return "json_object" if quirks.json_object else None
    if quirks.schemas == "json_object":
        return "json_object" if is_object else "prompt"
    if quirks.dialect == "strict" and not is_object:
        return "prompt"
    return "both" if quirks.schema_prompted else None


def _clashes(request: GenerateRequest, quirks: ChatQuirks) -> bool:
    """Whether the service refuses the field for a form beside something else in the request."""
    tools, stream = "tools" in quirks.form_clashes, "stream" in quirks.form_clashes
    return (tools and bool(request.tools)) or (stream and request.stream)
