"""The model that ships, on PyTorch: transformers must give the golden tokens as well. Run with `tox -e torch`."""

from __future__ import annotations

import json
from pathlib import Path

from abstractllm import embedded

GOLDEN = Path(__file__).parents[2] / "docs" / "embedded-model" / "golden.json"


def test_transformers_gives_the_golden_tokens() -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(embedded.PATH, dtype=torch.float32)
    for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
        prompt = torch.tensor([case["prompt_tokens"]])
        output = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=len(case["tokens"]), do_sample=False
        )
        assert output[0, prompt.shape[1] :].tolist() == case["tokens"]
