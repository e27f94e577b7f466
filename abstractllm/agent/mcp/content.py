"""Contents of MCP -> the parts of this package, and back. Knows no server and no call."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from abstractllm.errors import ProviderAPIError
from abstractllm.tools import ToolRetry
from abstractllm.types import DocumentPart, ImagePart, Part, TextPart

if TYPE_CHECKING:
    from mcp import types


def to_value(tool: str, result: types.CallToolResult) -> str | tuple[Part, ...]:
    """Return what a tool of a server gave: text, or text and other parts in their order.

    Several texts become one, with an empty line between them. Structured content is there as JSON where there is no
    text. Raises ToolRetry with the text, for the model, where the server says that the call failed, and
    ProviderAPIError for data that is not base64.
    """
    parts = [part for block in result.content for part in _parts(tool, block)]
    if result.structured_content is not None and not any(isinstance(part, TextPart) for part in parts):
        parts.insert(0, TextPart(json.dumps(result.structured_content, ensure_ascii=False)))
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    if result.is_error:
        raise ToolRetry("\n\n".join(texts) or f"{tool} failed, and its server did not say why.")
    return "\n\n".join(texts) if len(texts) == len(parts) else tuple(parts)


def _parts(tool: str, block: types.ContentBlock) -> Iterator[Part]:
    from mcp import types

    if isinstance(block, types.TextContent):
        yield TextPart(block.text)
    elif isinstance(block, (types.ImageContent, types.AudioContent)):
        yield _of_data(tool, block.data, block.mime_type, None)
    elif isinstance(block, types.ResourceLink):
        lines = (f"{block.title or block.name}: {block.uri}", block.description)
        yield TextPart("\n".join(line for line in lines if line))
    elif isinstance(block.resource, types.TextResourceContents):
        yield TextPart(block.resource.text, str(block.resource.uri))
    else:
        yield _of_data(tool, block.resource.blob, block.resource.mime_type, str(block.resource.uri))


def _of_data(tool: str, encoded: str, media_type: str | None, name: str | None) -> Part:
    """Return an image or a PDF as itself; of what no model can be shown, say that it came."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise ProviderAPIError(f"The MCP tool {tool!r} gave data of type {media_type} that is not base64.") from error
    if media_type is not None and media_type.startswith("image/"):
        return ImagePart(data, media_type, name)
    if media_type == "application/pdf":
        return DocumentPart(data, media_type, name)
    return TextPart(
        f"[{name or 'data'}: {len(data)} bytes of {media_type or 'an unknown type'}, which cannot be shown]"
    )


def to_blocks(content: str | Sequence[Part]) -> list[types.ContentBlock]:
    """Return text or parts as MCP's contents. A part that is only an address goes as a link."""
    from mcp import types

    if isinstance(content, str):
        return [types.TextContent(type="text", text=content)]
    return [_block(part) for part in content]


def _block(part: Part) -> types.ContentBlock:
    from mcp import types

    if isinstance(part, TextPart):
        return types.TextContent(type="text", text=part.text)
    name = part.name or "data"
    if part.url is not None and not part.data:
        return types.ResourceLink(type="resource_link", name=name, uri=part.url, mime_type=part.media_type)
    data = base64.b64encode(part.data).decode()
    if isinstance(part, ImagePart):
        return types.ImageContent(type="image", data=data, mime_type=part.media_type)
    blob: dict[str, Any] = {"uri": f"attachment:{name}", "blob": data, "mime_type": part.media_type}
    return types.EmbeddedResource(type="resource", resource=types.BlobResourceContents(**blob))
