"""Images and documents on their way to services: as each takes them, by URL where it fetches, fetched where asked."""

from __future__ import annotations

import asyncio
import base64
import io
from contextlib import contextmanager

import pytest
from PIL import Image

from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    FileProcessingError,
    ImageProcessingError,
    InvalidParameterError,
    UnsupportedFeatureError,
    UnsupportedOperationError,
)
from abstractllm.files import ImageLimits
from abstractllm.providers import compatible
from abstractllm.providers.anthropic import AnthropicProvider
from abstractllm.providers.http import Fetcher
from abstractllm.providers.ollama import OllamaProvider
from abstractllm.providers.openai import OpenAIProvider
from abstractllm.testing.faces import Face, ask
from abstractllm.testing.loopback import Gate, LoopbackServer, Reply
from abstractllm.types import DocumentPart, ImagePart, Message, TextPart

from ..pdfs import pdf
from .serving import body_of, friendly

KEY = "sk-loopback-0123456789"
CAT, PAPER = "https://a.org/cat.png", "https://a.org/paper.pdf"
SERVICES = {
    "openai": (OpenAIProvider, {"model": "gpt-4o"}),
    "responses": (OpenAIProvider, {"model": "gpt-4o", "api": "responses"}),
    "anthropic": (AnthropicProvider, {"model": "claude-sonnet-4-5"}),
    "ollama": (OllamaProvider, {"model": "gemma3"}),
    "compatible": (compatible.CompatibleProvider, {}),
    "lmstudio": (compatible.LMStudio, {"model": "m"}),
    "openrouter": (compatible.OpenRouter, {"model": "m"}),
    "gemini": (compatible.Gemini, {"model": "m"}),
    "mistral": (compatible.Mistral, {"model": "m"}),
    "xai": (compatible.XAI, {"model": "m"}),
    "groq": (compatible.Groq, {"model": "m"}),
    "vllm": (compatible.VLLM, {"model": "m"}),
}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OLLAMA_HOST", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


async def home(host, port):
    return ["127.0.0.1"]


@contextmanager
def asked(service, **settings):
    """Yield a provider, its service, and the turns that have come there."""
    kind, more = SERVICES[service]
    turns = []

    def script(request):
        codec = llm._codec()
        turns.extend(codec.decode_request(body_of(request)).messages)
        return friendly(codec, request)

    class Here(kind):
        fetcher = Fetcher(resolve=home, allowed=("127.0.0.1/32",))

    with LoopbackServer(script) as server, Here(base_url=server.url, api_key=KEY, **more, **settings) as llm:
        yield llm, server, turns


def encoded(kind, size=(60, 40), **options):
    buffer = io.BytesIO()
    Image.radial_gradient("L").resize(size).convert("RGB").save(buffer, kind, **options)
    return buffer.getvalue()


def turn(*parts):
    return [Message("user", (*parts, TextPart("What?")))]


def linked(url):
    return DocumentPart(b"", "application/pdf", url=url) if url.endswith(".pdf") else ImagePart(b"", "", url=url)


# By URL.


@pytest.mark.parametrize(
    ("service", "url"),
    [
        *((service, CAT) for service in ("openai", "responses", "anthropic", "compatible", "openrouter", "mistral")),
        *((service, PAPER) for service in ("responses", "anthropic", "openrouter", "compatible")),
        *((service, CAT) for service in ("xai", "groq", "vllm")),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"fetch_urls": False}])
def test_a_service_that_fetches_gets_the_url(service, url, settings):
    with asked(service, **settings) as (llm, _, turns):
        llm.generate("What?", files=[url])
        llm.generate(messages=turn(linked(url)))
    assert [one.content[0].url for one in turns] == [url, url]
    assert [type(one.content[0]) for one in turns] == [type(linked(url))] * 2


@pytest.mark.parametrize("face", Face)
@pytest.mark.parametrize(
    ("service", "url"),
    [("ollama", CAT), ("ollama", PAPER), ("lmstudio", CAT), ("gemini", CAT), ("openai", PAPER), ("mistral", PAPER)],
)
def test_one_that_does_not_is_refused_with_advice(service, url, face):
    with asked(service) as (llm, server, _):
        with pytest.raises(UnsupportedFeatureError, match="fetch_urls=True.*fetch_file") as caught:
            ask(llm, face, None, messages=turn(linked(url)))
        with pytest.raises(UnsupportedFeatureError):
            ask(llm, face, "What?", files=[url])
    assert caught.value.feature == ("vision" if url == CAT else "documents")
    assert server.requests == []


@pytest.mark.parametrize("service", ["ollama", "lmstudio", "gemini", "compatible"])
@pytest.mark.parametrize("face", Face)
def test_what_is_asked_for_is_fetched(service, face):
    data = encoded("PNG")
    with LoopbackServer([Reply(body=data)]) as web, asked(service, fetch_urls=True) as (llm, _, turns):
        url = f"{web.url}/cat.png".replace("127.0.0.1", "a.test")
        ask(llm, face, "What?", files=[url])
        ask(llm, face, None, messages=turn(ImagePart(b"", "", "mine", url=url), ImagePart(b"", "", url=url)))
    parts = [part for one in turns for part in one.content if isinstance(part, ImagePart)]
    assert [(part.data, part.url) for part in parts] == [(data, None)] * 3
    assert len(web.requests) == 2  # the second request has one address twice


@pytest.mark.parametrize("service", ["ollama", "mistral"])
def test_a_pdf_that_was_fetched_becomes_text_where_it_must(service):
    with LoopbackServer([Reply(body=pdf("Hello"))]) as web, asked(service, fetch_urls=True) as (llm, _, turns):
        llm.generate("What?", files=[f"{web.url}/paper.pdf"])
    assert "File: paper.pdf\n```text\n[page 1 of 1]\nHello" in turns[0].text


def test_a_pdf_that_was_fetched_stays_one_where_it_may():
    data = pdf("Hello")
    with LoopbackServer([Reply(body=data)]) as web, asked("openai", fetch_urls=True) as (llm, _, turns):
        llm.generate("What?", files=[f"{web.url}/paper.pdf"])
    assert turns[0].content[0] == DocumentPart(data, "application/pdf", "paper.pdf")


def test_what_may_not_be_fetched_ends_the_request():
    with LoopbackServer([Reply(body=encoded("PNG"))]) as web, asked("ollama", fetch_urls=True) as (llm, server, _):
        type(llm).fetcher = Fetcher()
        with pytest.raises(FileProcessingError, match="loopback") as caught:
            llm.generate("What?", files=[f"{web.url}/cat.png"])
        assert caught.value.provider == "ollama"
    assert (web.connections, server.requests) == (0, [])


async def test_closing_ends_what_is_being_fetched():
    gate = Gate()
    with LoopbackServer([Reply(chunks=[b"\x89", gate])]) as web, asked("ollama", fetch_urls=True) as (llm, server, _):
        task = asyncio.create_task(llm.generate_async("What?", files=[f"{web.url}/cat.png"]))
        assert await asyncio.to_thread(gate.reached.wait, 10)
        await llm.aclose()
        with pytest.raises(UnsupportedOperationError, match="closed"):
            await task
        assert await asyncio.to_thread(web.requests[0].left.wait, 10)
    assert server.requests == []


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("value", [1, "yes", []])
def test_the_setting_is_true_or_false(service, value, monkeypatch):
    kind, more = SERVICES[service]
    more = {"base_url": "http://127.0.0.1:1", "api_key": KEY, **more}
    with pytest.raises(InvalidParameterError, match="fetch_urls"):
        kind(**more, fetch_urls=value)
    monkeypatch.setenv(f"ABSTRACTLLM_{kind.name}_FETCH_URLS".upper().replace("-", "_"), "true")
    with kind(**more) as llm:
        assert llm.get_param("fetch_urls") is True


# Documents.


@pytest.mark.parametrize("face", Face)
@pytest.mark.parametrize("service", ["ollama", "mistral"])
def test_pdfs_are_text_for_services_that_take_none(service, face, tmp_path):
    (tmp_path / "a.pdf").write_bytes(pdf("Hello"))
    with asked(service) as (llm, _, turns):
        ask(llm, face, "What?", files=[tmp_path / "a.pdf"])
        ask(llm, face, None, messages=turn(DocumentPart(pdf("Hello"), "application/pdf", "a.pdf")))
    assert all(one.text == "File: a.pdf\n```text\n[page 1 of 1]\nHello\n```\n\nWhat?" for one in turns)


@pytest.mark.parametrize("service", ["openai", "responses", "anthropic", "openrouter", "compatible"])
def test_pdfs_stay_pdfs_for_the_others(service, tmp_path):
    data = pdf(None)  # a scan, which has no text
    (tmp_path / "a.pdf").write_bytes(data)
    with asked(service) as (llm, _, turns):
        llm.generate("What?", files=[tmp_path / "a.pdf"])
    assert turns[0].content[0] == DocumentPart(data, "application/pdf", "a.pdf")


# Images.


def sent_image(service, data, count=1, media_type="image/png"):
    with asked(service) as (llm, _, turns):
        llm.generate(messages=turn(*[ImagePart(data, media_type)] * count))
    found = [part for part in turns[0].content if isinstance(part, ImagePart)]
    assert len(found) == count
    return found[0]


@pytest.mark.parametrize("service", SERVICES)
def test_what_a_service_takes_goes_along_byte_for_byte(service):
    for kind in ("PNG", "JPEG"):
        data = encoded(kind)
        assert sent_image(service, data).data == data


@pytest.mark.parametrize(
    ("service", "kind", "expected"),
    [
        ("ollama", "WEBP", "image/jpeg"),
        ("lmstudio", "WEBP", "image/jpeg"),
        ("ollama", "GIF", "image/png"),
        ("xai", "GIF", "image/png"),
        ("gemini", "GIF", "image/png"),
        ("anthropic", "GIF", "image/gif"),
        ("openai", "WEBP", "image/webp"),
    ],
)
def test_other_formats_are_converted(service, kind, expected):
    assert sent_image(service, encoded(kind), media_type=f"image/{kind.lower()}").media_type == expected


def test_an_animation_becomes_its_first_frame_where_none_is_taken():
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "green", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert sent_image("openai", buffer.getvalue()).media_type == "image/png"
    assert sent_image("anthropic", buffer.getvalue()).data == buffer.getvalue()


def test_many_images_are_made_smaller_for_anthropic():
    wide = encoded("JPEG", (2100, 20))
    assert sent_image("anthropic", wide, 20).data == wide
    assert Image.open(io.BytesIO(sent_image("anthropic", wide, 21).data)).width == 2000


def test_base64_stays_below_what_anthropic_counts():
    noise = Image.merge("RGB", [Image.effect_noise((1400, 1400), 100) for _ in range(3)])
    buffer = io.BytesIO()
    noise.save(buffer, "PNG", compress_level=1)
    assert len(buffer.getvalue()) > 5 * 2**20
    assert len(base64.b64encode(sent_image("anthropic", buffer.getvalue()).data)) <= 5 * 2**20


@pytest.mark.parametrize("face", Face)
def test_a_broken_image_ends_the_request(face):
    with asked("openai") as (llm, server, _):
        with pytest.raises(ImageProcessingError, match="neither PNG") as caught:
            ask(llm, face, None, messages=turn(ImagePart(b"no image", "image/png")))
        assert caught.value.provider == "openai"
    assert server.requests == []


def test_every_row_says_where_its_facts_are_from():
    for row in compatible.SERVICES.values():
        taken = row.attachments
        silent = taken.images == ImageLimits() and taken.image_urls is None and taken.document_urls is None
        assert silent or taken.source, row.name
        if ModelCapability.VISION in row.cannot:
            assert silent, row.name
