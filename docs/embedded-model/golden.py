"""Greedy tokens for 50 prompts, from mlx-lm or from transformers: ``python golden.py ENGINE [--check]``.

Both compute in float32. ``--check`` compares with ``golden.json`` instead of writing it; the exit status tells the outcome.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from cases import Case, make_cases

FOLDER = Path(__file__).parent
SHIPPED = FOLDER.parents[1] / "abstractllm" / "embedded"
MOST_TOKENS = 96


def prompts() -> list[Case]:
    """Fifty cases, from every skill."""
    return make_cases(9, seed=50)[:50]


def with_mlx(prompt_tokens: list[list[int]], stop: set[int]) -> list[list[int]]:
    """Tokens by mlx-lm, one prompt at a time; the end token is the last where it was reached."""
    from evaluate import load

    model, _ = load(SHIPPED)
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    answers = []
    for prompt in prompt_tokens:
        answer: list[int] = []
        for token, _ in generate_step(mx.array(prompt), model, max_tokens=MOST_TOKENS):
            answer.append(int(token))
            if answer[-1] in stop:
                break
        answers.append(answer)
    return answers


def with_transformers(prompt_tokens: list[list[int]], stop: set[int]) -> list[list[int]]:
    """Tokens by transformers on torch."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(SHIPPED, dtype=torch.float32)
    answers = []
    for prompt in prompt_tokens:
        output = model.generate(torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=MOST_TOKENS, do_sample=False)
        answer = output[0, len(prompt) :].tolist()
        ends = [i for i, token in enumerate(answer) if token in stop]
        answers.append(answer[: ends[0] + 1] if ends else answer)
    return answers


def main() -> None:
    """Write or check the golden tokens."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=("mlx", "transformers"))
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(SHIPPED)
    stop = set(json.loads((SHIPPED / "generation_config.json").read_text())["eos_token_id"])
    cases = prompts()
    prompt_tokens = [list(tokenizer.apply_chat_template(case.messages, tools=case.tools or None, add_generation_prompt=True, return_dict=False)) for case in cases]
    answers = (with_mlx if options.engine == "mlx" else with_transformers)(prompt_tokens, stop)
    rows = [
        {"messages": case.messages, "tools": case.tools, "prompt_tokens": prompt, "tokens": answer}
        for case, prompt, answer in zip(cases, prompt_tokens, answers, strict=True)
    ]
    path = FOLDER / "golden.json"
    if options.check:
        different = [i for i, (old, new) in enumerate(zip(json.loads(path.read_text("utf-8")), rows, strict=True)) if old != new]
        print(f"{len(rows) - len(different)} of {len(rows)} equal; different: {different}")
        raise SystemExit(bool(different))
    path.write_text("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in rows) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
