"""What Ollama says of models."""

from __future__ import annotations

import json

import pytest

from abstractllm.errors import GenerationError, ProviderAPIError, ProviderConnectionError
from abstractllm.wire.ollama_models import (
    LocalModel,
    ModelFacts,
    PullDecoder,
    PullProgress,
    decode_show,
    decode_tags,
)

from .streams import at_every_cut, decoded

DETAILS = {"format": "gguf", "family": "qwen3", "parameter_size": "4.0B", "quantization_level": "Q4_K_M"}
SIZE = 2_620_788_260


def pull_decoder() -> PullDecoder:
    return PullDecoder("ollama")


def test_the_list_of_models() -> None:
    models = [
        {"name": "qwen3:4b", "model": "qwen3:4b", "size": SIZE, "digest": "e55a", "details": DETAILS, "new": 1},
        {"model": "old", "details": None},
    ]
    found = decode_tags(json.dumps({"models": models}).encode(), "ollama")
    assert found == (LocalModel("qwen3:4b", SIZE, "e55a", "qwen3", "4.0B", "Q4_K_M"), LocalModel("old"))
    assert decode_tags(b'{"models": null}', "ollama") == ()


def test_what_a_model_can_do() -> None:
    info = {"general.architecture": "qwen3", "qwen3.context_length": 40960, "llama.context_length": 1}
    body = {"capabilities": ["completion", "tools"], "model_info": info, "details": DETAILS}
    facts = ModelFacts(frozenset({"completion", "tools"}), 40960, "qwen3", "4.0B", "Q4_K_M")
    assert decode_show(json.dumps(body).encode(), "ollama") == facts


def test_an_old_service_says_less() -> None:
    assert decode_show(b'{"modelfile": ""}', "ollama") == ModelFacts()


def test_errors_and_nonsense() -> None:
    for decode in (decode_tags, decode_show):
        with pytest.raises(ProviderAPIError, match="not found"):
            decode(b'{"error": "model not found"}', "ollama")
        with pytest.raises(GenerationError, match="cannot read"):
            decode(b"Not Found", "ollama")


PULL = (
    b'{"status":"pulling manifest"}\n'
    b'{"status":"pulling 163553aea1b1","digest":"sha256:1635","total":2620788260}\n'
    b'{"status":"pulling 163553aea1b1","digest":"sha256:1635","total":2620788260,"completed":1024}\n\n'
    b'{"status":"verifying sha256 digest"}\n'
    b'{"status":"success"}\n'
)


def test_a_download_is_the_same_wherever_it_is_cut() -> None:
    steps, error = at_every_cut(pull_decoder, PULL)
    assert error is None
    assert steps == [
        PullProgress("pulling manifest"),
        PullProgress("pulling 163553aea1b1", "sha256:1635", SIZE),
        PullProgress("pulling 163553aea1b1", "sha256:1635", SIZE, 1024),
        PullProgress("verifying sha256 digest"),
        PullProgress("success"),
    ]
    assert decoded(pull_decoder(), [PULL.rstrip()]) == steps


def test_a_download_that_fails_says_why() -> None:
    steps, error = at_every_cut(pull_decoder, PULL[:30] + b'{"error":"pull model manifest: file does not exist"}\n')
    assert steps == [PullProgress("pulling manifest")]
    assert error is not None
    assert "file does not exist" in str(error)


@pytest.mark.parametrize("end", [0, 30, 40, len(PULL) - 3])
def test_a_download_that_ends_too_early_is_cut_off(end: int) -> None:
    decoder = pull_decoder()
    decoder.feed(PULL[:end])
    with pytest.raises(ProviderConnectionError, match="cut off"):
        decoder.end()


def test_what_is_no_progress_is_an_error() -> None:
    with pytest.raises(GenerationError, match="cannot read"):
        pull_decoder().feed(b"<html>\n")
