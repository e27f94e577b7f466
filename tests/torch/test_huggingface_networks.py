"""Our decoding loop against transformers' own forward pass and `generate`, on small random networks of many kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from abstractllm import UnsupportedModelError
from abstractllm.providers.huggingface import HuggingFaceProvider
from abstractllm.providers.huggingface.decoding import CHUNK, Decoder

PIECES = {"sliding_window": 64}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {},
    "mistral": PIECES,
    "gemma3_text": PIECES,
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 4096},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "qwen3_5_text": {**LINEAR, "num_hidden_layers": 4},
}


def network_of(kind: str, make_model: Any, folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(make_model(folder, kind, **KINDS[kind])).eval()


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_give_the_scores_of_the_whole(kind: str, make_model: Any, tmp_path: Path) -> None:
    """A prompt of more than one chunk, and then token by token."""
    import torch

    network = network_of(kind, make_model, tmp_path)
    tokens = torch.randint(3, 2000, (2 * CHUNK + 100,), generator=torch.Generator().manual_seed(1)).tolist()
    with torch.inference_mode():
        expected = network(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1]
    decoder = Decoder(network)
    prompt, rest = tokens[:-3], tokens[-3:]
    step = decoder.chunk or len(prompt)
    for start in range(0, len(prompt), step):
        decoder.feed(prompt[start : start + step])
    twin = decoder.copy()
    for one in (decoder, twin):
        for token in rest:
            one.feed([token])
        assert torch.allclose(one.logits, expected, atol=2e-4 * float(expected.abs().max()))


def test_networks_with_states_take_a_prompt_whole(make_model: Any, tmp_path: Path) -> None:
    assert Decoder(network_of("qwen3_5_text", make_model, tmp_path)).chunk is None


@pytest.mark.parametrize("kind", ["llama", "qwen3_5_text"])
def test_greedy_tokens_are_those_of_generate(kind: str, make_model: Any, tmp_path: Path) -> None:
    import torch

    folder = make_model(tmp_path, kind, **KINDS[kind])
    with HuggingFaceProvider(model=folder, max_tokens=30, device="cpu") as llm:
        answer = llm.generate("Tell me of the sea.", logprobs=True)
        model = llm._loaded(str(folder))
        text = model.tokenizer.render(answer_messages("Tell me of the sea."), ())
        prompt = torch.tensor([model.tokenizer.encode(text)])
        output = model.network.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=30, do_sample=False, pad_token_id=0
        )
    expected = [token for token in output[0, prompt.shape[1] :].tolist() if token not in model.tokenizer.stop_tokens]
    assert [one.bytes for one in answer.logprobs] == [model.tokenizer.token_bytes(token) for token in expected]


def answer_messages(prompt: str) -> Any:
    from abstractllm.messages import to_messages

    return to_messages([{"role": "user", "content": prompt}])


def test_a_network_without_such_a_cache_is_refused(make_model: Any, tmp_path: Path) -> None:
    with (
        HuggingFaceProvider(model=make_model(tmp_path, "mamba")) as llm,
        pytest.raises(UnsupportedModelError, match="Mamba"),
    ):
        llm.generate("Hello")
