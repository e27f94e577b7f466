"""Images and documents on their way to a service: what it takes, and what is done here before. Knows no service."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TypeGuard

from abstractllm.errors import InvalidParameterError, UnsupportedFeatureError, shown
from abstractllm.files.images import ImageLimits, fitted
from abstractllm.providers.documents import parts_of, with_parts
from abstractllm.providers.http.fetching import Fetcher
from abstractllm.types import DocumentPart, GenerateRequest, ImagePart, Part

_AT_ONCE = 4
"""Files of one request that are fetched at the same time."""


@dataclass(frozen=True, slots=True)
class Attachments:
    """What a service does with images and documents, and where that is written.

    - `images`: the images that it takes; `crowded` those that it takes where there are more than `crowd` in a request.
    - `image_urls`, `document_urls`: whether it fetches what is given by URL; None where that is not known.
    """

    source: str = ""
    images: ImageLimits = field(default_factory=ImageLimits)
    crowd: int | None = None
    crowded: ImageLimits = field(default_factory=ImageLimits)
    image_urls: bool | None = None
    document_urls: bool | None = None

    def limits(self, count: int) -> ImageLimits:
        """Return what holds for each of so many images."""
        return self.crowded if self.crowd is not None and count > self.crowd else self.images

    def fetched_by_service(self, part: ImagePart | DocumentPart) -> bool | None:
        """Whether the service fetches a part that is given by URL."""
        return self.image_urls if isinstance(part, ImagePart) else self.document_urls


def check_fetch_urls(value: object) -> None:
    """Raise InvalidParameterError for a setting that is neither True nor False."""
    if value is not None and not isinstance(value, bool):
        raise InvalidParameterError("fetch_urls", f"fetch_urls={shown(value)} is not valid: it must be True or False.")


def is_linked(part: Part) -> TypeGuard[ImagePart | DocumentPart]:
    """Whether a part is given by URL, without its data."""
    return isinstance(part, (ImagePart, DocumentPart)) and part.url is not None and not part.data


def check_links(request: GenerateRequest, attachments: Attachments, *, fetch: bool) -> None:
    """Raise UnsupportedFeatureError for the first part by URL that nobody would fetch."""
    for part in parts_of(request):
        if fetch or not is_linked(part) or attachments.fetched_by_service(part) is not False:
            continue
        feature, what = ("vision", "images") if isinstance(part, ImagePart) else ("documents", "documents")
        name = f" ({part.name})" if part.name else ""
        advice = "set fetch_urls=True to have them fetched here, or pass what abstractllm.fetch_file(url) returns"
        raise UnsupportedFeatureError(feature, f"This service takes {what} as data, not by URL{name}; {advice}.")


def with_links_stood_in(request: GenerateRequest) -> GenerateRequest:
    """Return a request with a byte for what is given by URL, for checks that must be quick."""
    if not any(is_linked(part) for part in parts_of(request)):
        return request
    return with_parts(request, _stood_in)


def _stood_in(part: Part) -> Part:
    if not is_linked(part):
        return part
    media_type = "image/png" if isinstance(part, ImagePart) else "application/pdf"
    return replace(part, data=b"x", media_type=part.media_type or media_type, url=None)


async def with_links_fetched(request: GenerateRequest, attachments: Attachments, fetcher: Fetcher) -> GenerateRequest:
    """Return a request with the data of what is given by URL and the service does not fetch itself, each once.

    Raises FileProcessingError.
    """
    wanted = {part.url: part for part in parts_of(request) if _is_ours(part, attachments)}
    if not wanted:
        return request
    places = asyncio.Semaphore(_AT_ONCE)

    async def fetched(part: ImagePart | DocumentPart) -> Part:
        async with places:
            found = await fetcher.fetch(part.url or "")
        return replace(found, name=part.name or found.name)

    tasks = {url: asyncio.ensure_future(fetched(part)) for url, part in wanted.items()}
    try:
        await asyncio.gather(*tasks.values())
    finally:
        for task in tasks.values():
            task.cancel()
    return with_parts(request, lambda part: tasks[part.url].result() if _is_ours(part, attachments) else part)


def _is_ours(part: Part, attachments: Attachments) -> TypeGuard[ImagePart | DocumentPart]:
    return is_linked(part) and attachments.fetched_by_service(part) is not True


def with_images_fitted(request: GenerateRequest, attachments: Attachments) -> GenerateRequest:
    """Return a request with images as the service takes them. Blocks, and takes time. Raises ImageProcessingError."""
    limits = attachments.limits(sum(isinstance(part, ImagePart) for part in parts_of(request)))
    return with_parts(request, lambda part: fitted(part, limits) if isinstance(part, ImagePart) else part)


def has_images(request: GenerateRequest) -> bool:
    """Whether there are data of images in a request."""
    return any(isinstance(part, ImagePart) and part.data for part in parts_of(request))
