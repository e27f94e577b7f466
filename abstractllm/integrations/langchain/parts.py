"""One block of LangChain's content -> one part of a message. Knows no roles and no messages."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError, shown
from abstractllm.types import DocumentPart, ImagePart, Part, TextPart

_IMAGES = frozenset({"image", "image_url", "input_image"})
_FILES = frozenset({"file", "document", "text-plain", "input_file"})
_MEDIA = frozenset({"audio", "video", "input_audio", "input_video", "media"})


def part_of(place: str, block: str | Mapping[Any, Any]) -> Part:
    """Return the part that a block is; `place` names it in messages.

    Texts in files become text with the file's name. Raises UnsupportedFeatureError for sound and moving pictures, and
    InvalidParameterError for a block that is not known or whose data cannot be read.
    """
    kind = "text" if isinstance(block, str) else block.get("type")
    if isinstance(block, str) or (kind in ("text", "input_text", "output_text") and not block.get("source_type")):
        return TextPart(text_of_block(place, block))
    if kind in _IMAGES:
        return _image(place, block)
    if kind in _FILES or kind == "text":
        return _file(place, block)
    if kind in _MEDIA:
        raise UnsupportedFeatureError(str(kind), f"{place} has a block of type {kind!r}, which no provider here takes.")
    if kind == "json":
        return TextPart(str(block.get("json")))
    raise _bad(place, f"a block of type {shown(kind)}, which is not known")


def text_of_block(place: str, block: str | Mapping[Any, Any]) -> str:
    """Return the text of a block of text. Raises InvalidParameterError for any other."""
    if isinstance(block, str):
        return block
    text = block.get("text")
    if block.get("type") in ("text", "input_text", "output_text") and isinstance(text, str):
        return text
    if block.get("type") == "refusal" and isinstance(block.get("refusal"), str):
        return str(block["refusal"])
    raise _bad(place, f"a block of type {shown(block.get('type'))} where only text can stand")


def _image(place: str, block: Mapping[Any, Any]) -> ImagePart:
    media_type, data, url = _source(place, block, "image_url")
    return ImagePart(data, media_type or ("" if url else "image/png"), _name(block), url=url)


def _file(place: str, block: Mapping[Any, Any]) -> Part:
    text, told = block.get("text"), block.get("source")
    if text is None and isinstance(told, Mapping) and told.get("type") == "text":
        text = told.get("data")
    if isinstance(text, str):
        return TextPart(text, _name(block))
    media_type, data, url = _source(place, block, "file")
    plain = "text/plain" if block.get("type") == "text-plain" else "application/pdf"
    media_type = media_type or plain
    if url is None and media_type.startswith("text/"):
        return TextPart(data.decode("utf-8", errors="replace"), _name(block))
    return DocumentPart(data, media_type, _name(block), url=url)


def _source(place: str, block: Mapping[Any, Any], nested: str) -> tuple[str, bytes, str | None]:
    """Return the media type, "" where it is not told, and the bytes or the URL of a block."""
    inner = block.get(nested) or block.get("source") or block
    if isinstance(inner, str):
        inner = {"url": inner}
    told = inner.get("mime_type") or inner.get("media_type") or block.get("mime_type") or ""
    encoded = inner.get("base64") or inner.get("data") or inner.get("file_data")
    url = inner.get("url")
    if isinstance(url, str) and url.startswith("data:"):
        encoded, url = url, None
    if isinstance(encoded, str):
        kind, data = _decoded(place, encoded)
        return kind or told, data, None
    if isinstance(url, str) and "://" in url:
        return told, b"", url
    if inner.get("file_id") or inner.get("id"):
        raise UnsupportedFeatureError("file_id", f"{place} names a file by its id at a service; give its data or URL.")
    raise _bad(place, "a block without data: give base64, or a URL")


def _decoded(place: str, text: str) -> tuple[str, bytes]:
    """Return the media type and the bytes of base64, which may stand in a `data:` URL."""
    header, _, body = text.removeprefix("data:").rpartition(",")
    try:
        return header.partition(";")[0], base64.b64decode(body, validate=True)
    except ValueError as error:
        raise _bad(place, "data that is not valid base64") from error


def _name(block: Mapping[Any, Any]) -> str | None:
    """Return the name of a block's file, wherever its form has it."""
    places = (block, block.get("file"), block.get("extras"), block.get("metadata"))
    for place in places:
        if isinstance(place, Mapping):
            for key in ("filename", "name", "title"):
                if isinstance(place.get(key), str):
                    return str(place[key])
    return None


def _bad(place: str, what: str) -> InvalidParameterError:
    return InvalidParameterError("messages", f"{place} has {what}.")
