"""What services take as images and documents, and what they fetch by URL: one fact sheet each, with its source.

A limit in bytes is of the image itself; where a service counts base64, it is three quarters of that. Knows no formats
of requests.
"""

from __future__ import annotations

from dataclasses import replace

from abstractllm.files.images import FORMATS, ImageLimits
from abstractllm.providers.http.attachments import Attachments

_MB = 10**6
_MIB = 2**20
_PLAIN = frozenset({"image/png", "image/jpeg"})

OPENAI_CHAT = Attachments(
    "developers.openai.com: the guide on images and vision (PNG, JPEG, WebP and GIF that is not animated; scaled down"
    " to 2048 pixels), the guide on file inputs (Chat Completions takes no URLs of files).",
    ImageLimits(formats=FORMATS, animated=False, preferred_side=2048),
    image_urls=True,
    document_urls=False,
)
OPENAI_RESPONSES = replace(OPENAI_CHAT, document_urls=True)

_ANTHROPIC = ImageLimits(8000, 5 * _MIB * 3 // 4, FORMATS, preferred_side=2000)
ANTHROPIC = Attachments(
    "platform.claude.com/docs/en/build-with-claude: vision (8000 pixels, 2000 where there are more than 20 images; 5"
    " MB, which the service counts in base64; models up to 4.6 look at 1568 pixels), pdf-support.",
    _ANTHROPIC,
    crowd=20,
    crowded=replace(_ANTHROPIC, longest_side=2000),
    image_urls=True,
    document_urls=True,
)
OLLAMA = Attachments(
    "Ollama's API, images: a list of base64 texts. PNG and JPEG are read by all versions, WebP by newer ones alone.",
    ImageLimits(formats=_PLAIN),
    image_urls=False,
    document_urls=False,
)
LM_STUDIO = Attachments(
    "What the server itself says to a URL, and to WebP: the field must be a base64 encoded image.",
    ImageLimits(formats=_PLAIN),
    image_urls=False,
    document_urls=False,
)
VLLM = Attachments("docs.vllm.ai, multimodal inputs: fetches URLs unless it was started otherwise.", image_urls=True)
OPENROUTER = Attachments(
    "openrouter.ai/docs/features/multimodal: images and PDFs, by URL or in base64.",
    ImageLimits(formats=FORMATS),
    image_urls=True,
    document_urls=True,
)
GROQ = Attachments(
    "console.groq.com/docs/vision: 4 MB for a request with base64; URLs.",
    ImageLimits(bytes=28 * _MB // 10),
    image_urls=True,
)
MISTRAL = Attachments(
    "docs.mistral.ai/capabilities/vision: PNG, JPEG, WebP, GIF of one frame; 10 MB; 10000 pixels, scaled down to 1540.",
    ImageLimits(10_000, 10 * _MB, FORMATS, animated=False, preferred_side=1540),
    image_urls=True,
)
DEEPSEEK = Attachments(
    "api-docs.deepseek.com/guides/vision: JPEG, PNG, GIF, WebP; 32 MiB; URLs.",
    ImageLimits(bytes=32 * _MIB, formats=FORMATS),
    image_urls=True,
)
TOGETHER = Attachments("docs.together.ai/docs/inference/vision: by URL or in base64.", image_urls=True)
FIREWORKS = Attachments(
    "docs.fireworks.ai/guides/querying-vision-language-models: no WebP; 10 MB of base64 in a request; URLs.",
    ImageLimits(bytes=7 * _MB, formats=_PLAIN | {"image/gif"}),
    image_urls=True,
)
XAI = Attachments(
    "docs.x.ai, image understanding: JPEG and PNG, URLs. The size was 10 MiB, and is now said to be 20.",
    ImageLimits(bytes=10 * _MIB, formats=_PLAIN),
    image_urls=True,
)
GEMINI = Attachments(
    "ai.google.dev/gemini-api/docs/image-understanding: PNG, JPEG, WebP, HEIC, HEIF; 20 MB a request. Its endpoint of"
    " OpenAI's format documents base64 alone.",
    ImageLimits(bytes=14 * _MB, formats=FORMATS - {"image/gif"} | {"image/heic", "image/heif"}),
    image_urls=False,
    document_urls=False,
)
