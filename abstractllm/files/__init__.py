"""Files -> message parts: text, tables, images, PDFs. Knows no provider and fetches nothing."""

from __future__ import annotations

from abstractllm.files.documents import document_text
from abstractllm.files.images import MAX_PIXELS, ImageLimits, fitted
from abstractllm.files.reading import file_paths, image_or_pdf, read_files
from abstractllm.files.refusals import MAX_BYTES, MAX_TEXT_BYTES

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_TEXT_BYTES",
    "ImageLimits",
    "document_text",
    "file_paths",
    "fitted",
    "image_or_pdf",
    "read_files",
]
