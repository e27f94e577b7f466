"""Images: what they are, whether they are whole, and smaller ones where a service takes no larger. Knows Pillow.

What a service takes is said by its provider, as `ImageLimits`. All of this blocks and takes time; call it in a thread.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from abstractllm.errors import ImageProcessingError
from abstractllm.types import ImagePart

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 80_000_000
"""Width times height of the largest image that is taken; decoding it takes up to four bytes a pixel."""

FORMATS = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
"""The media types that are known here; images of others are neither decoded nor made."""

_SMALLEST = 32
"""Pixels of the longer side below which an image is not made smaller, since nothing could be seen in it."""

_STEPS = 16
_DECODERS = ("PNG", "JPEG", "GIF", "WEBP", "MPO")
_ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "image/png": {"format": "PNG"},
    "image/jpeg": {"format": "JPEG", "quality": 88},
    "image/webp": {"format": "WEBP", "quality": 88},
}


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What a service takes as one image; None is no limit.

    - `longest_side` is in pixels, `bytes` is the size of the encoded image, before base64.
    - `formats` are media types. `animated` says whether it takes images of several frames.
    - `preferred_side` is in pixels how large an image becomes that has to be encoded again: what a model looks at.
    """

    longest_side: int | None = None
    bytes: int | None = None
    formats: frozenset[str] | None = None
    animated: bool = True
    preferred_side: int | None = None


def image_type(data: bytes) -> str | None:
    """Return the media type that the first bytes stand for; see the PNG, JFIF, GIF and RIFF specifications."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    return "image/webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def verify_image(source: str, data: bytes) -> None:
    """Decode an image once, so that a broken one is refused here and not by a model in the middle of its work.

    `source` names it in the ImageProcessingError.
    """
    with _opened(source, data) as image:
        _check_pixels(source, image)
        image.verify()
    with _opened(source, data) as image:
        image.load()


def fitted(part: ImagePart, limits: ImageLimits) -> ImagePart:
    """Return an image that a service takes, the same one where it takes that; one without data is not looked at.

    The media type is corrected to that of the content. An image is encoded again only where it has another format, more
    pixels or more bytes than the limits allow. It is then turned as its Exif orientation says, keeps its transparency,
    and of an animation the first frame is left. A photograph stays one (JPEG); all others become PNG where that is not
    too large. Raises ImageProcessingError for what is no image, cannot be decoded, or cannot be made small enough.
    """
    if not part.data:
        return part
    source = part.name or "without a name"
    found = image_type(part.data)
    if found is None:
        _check_unknown(part, limits, source)
        return part
    if part.media_type != found:
        part = replace(part, media_type=found)
    with _opened(source, part.data) as image:
        _check_pixels(source, image)
        if _fits(part, image, limits):
            return part
        return _encoded_again(part, image, limits, source)


def _check_unknown(part: ImagePart, limits: ImageLimits, source: str) -> None:
    """Refuse an image whose format is not known here, unless the service is known to take it."""
    if part.media_type in FORMATS or not part.media_type.startswith("image/"):
        what = f"The image {source!r} is neither PNG, JPEG, GIF nor WebP; convert it to one of them."
        raise ImageProcessingError(what, path=source)
    if limits.formats is not None and part.media_type not in limits.formats:
        what = f"The image {source!r} is {part.media_type}, which this service does not take; convert it to PNG."
        raise ImageProcessingError(what, path=source)
    if limits.bytes is not None and len(part.data) > limits.bytes:
        what = f"The image {source!r} has {len(part.data):,} bytes, where {limits.bytes:,} are allowed."
        raise ImageProcessingError(f"{what} Make it smaller, or convert it to PNG or JPEG.", path=source)


@contextmanager
def _opened(source: str, data: bytes) -> Iterator[Image]:
    """Yield an image whose head is read; whatever breaks in it is an ImageProcessingError."""
    from PIL import Image as pillow

    try:
        with pillow.open(io.BytesIO(data), formats=_DECODERS) as image:
            yield image
    except ImageProcessingError:
        raise
    except Exception as error:  # decoders raise all kinds of errors for broken input
        message = f"The image {source!r} cannot be decoded ({error}); open it and save it again."
        raise ImageProcessingError(message, path=source) from error


def _check_pixels(source: str, image: Image) -> None:
    """Refuse a decompression bomb by what its head says, before any of it is decoded."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        message = f"The image {source!r} has {pixels:,} pixels, more than {MAX_PIXELS:,}; make it smaller."
        raise ImageProcessingError(message, path=source)


def _fits(part: ImagePart, image: Image, limits: ImageLimits) -> bool:
    if limits.formats is not None and part.media_type not in limits.formats:
        return False
    if limits.longest_side is not None and max(image.size) > limits.longest_side:
        return False
    if limits.bytes is not None and len(part.data) > limits.bytes:
        return False
    several = part.media_type != "image/jpeg" and getattr(image, "is_animated", False)  # cameras put previews into JPEG
    return limits.animated or not several


def _encoded_again(part: ImagePart, image: Image, limits: ImageLimits, source: str) -> ImagePart:
    sides = [side for side in (limits.longest_side, limits.preferred_side) if side is not None]
    photograph = part.media_type == "image/jpeg" or part.data[12:16] == b"VP8 "  # lossy WebP, RFC 9649
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA") else None
    pixels = _upright(image, min(sides, default=None))
    forms = _forms(pixels, limits, photograph=photograph)
    for _ in range(_STEPS):
        data = b""
        for form in forms:
            data = _encoded(pixels, form, profile)
            if limits.bytes is None or len(data) <= limits.bytes:
                return replace(part, data=data, media_type=form)
        if not data or limits.bytes is None or max(pixels.size) < _SMALLEST:
            break
        _shrink(pixels, int(max(pixels.size) * min(0.9, 0.95 * math.sqrt(limits.bytes / len(data)))))
    message = f"The image {source!r} cannot be made to fit what this service takes; convert it yourself."
    raise ImageProcessingError(message, path=source)


def _upright(image: Image, side: int | None) -> Image:
    """Return the first frame in grey, RGB or RGBA, turned as it is meant to be seen, its longer side at most `side`."""
    from PIL import ImageOps

    if side is not None and image.format in ("JPEG", "MPO"):
        image.draft(None, (side, side))  # JPEG is decoded at a half, a quarter or an eighth where that is enough
    turned = _plain(ImageOps.exif_transpose(image))
    if side is not None:
        _shrink(turned, side)
    return turned


def _plain(image: Image) -> Image:
    """Return pixels of eight bits a channel: RGBA where something is transparent, else RGB or grey."""
    if image.has_transparency_data:
        return image.convert("RGBA")
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        return image.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _shrink(image: Image, side: int) -> None:
    from PIL.Image import Resampling

    image.thumbnail((max(1, side), max(1, side)), Resampling.LANCZOS, reducing_gap=2.0)


def _forms(image: Image, limits: ImageLimits, *, photograph: bool) -> list[str]:
    """Return the media types to try, the best first."""
    if image.mode == "RGBA":
        tried = ["image/png", "image/webp"]
    else:
        tried = ["image/jpeg", "image/png"] if photograph else ["image/png", "image/jpeg"]
    return [form for form in tried if limits.formats is None or form in limits.formats]


def _encoded(image: Image, form: str, profile: bytes | None) -> bytes:
    buffer = io.BytesIO()
    options: dict[str, Any] = {**_ENCODERS[form], "exif": b""}
    if profile:
        options["icc_profile"] = profile
    image.save(buffer, **options)
    return buffer.getvalue()
