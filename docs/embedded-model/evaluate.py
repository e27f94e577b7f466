"""Measure the model: ``python evaluate.py [FOLDER] [--limit 300]``.

Greedy, unconstrained, in float32, with mlx-lm alone. With ``--package`` as users get it, through ``create_llm``, which
holds calls to the tools on offer. Prints a table per skill and, with ``--errors``, the first wrong answers.
"""

import argparse
import ctypes
import ctypes.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

from cases import Case, make_cases

SHIPPED = Path(__file__).parents[2] / "abstractllm" / "embedded"


def use_fast_blas() -> None:
    """Let MLX's CPU backend find OpenBLAS where it is installed."""
    name = ctypes.util.find_library("openblas")
    if name:
        ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)


def load(folder: Path) -> tuple[Any, Any]:
    """Model in float32 and tokenizer."""
    use_fast_blas()
    import mlx.core as mx
    from mlx_lm import load as load_model

    model, tokenizer = load_model(str(folder))[:2]
    model.set_dtype(mx.float32)
    return model, tokenizer


def answers(folder: Path, cases: list[Case]) -> list[str]:
    """The greedy answer to every case, one at a time: on a CPU that is faster than a batch of this small model."""
    model, tokenizer = load(folder)
    import mlx.core as mx
    from mlx_lm.generate import generate_step

    found = []
    for case in cases:
        prompt = tokenizer.apply_chat_template(case.messages, tools=case.tools or None, add_generation_prompt=True)
        answer: list[int] = []
        for token, _ in generate_step(mx.array(prompt), model, max_tokens=256):
            if int(token) in tokenizer.eos_token_ids:
                break
            answer.append(int(token))
        found.append(tokenizer.decode(answer))
    return found


def package_answers(folder: Path, cases: list[Case]) -> list[str]:
    """The greedy answer of the package to every case, calls as the model writes them."""
    from abstractllm import create_llm

    found = []
    with create_llm("mlx", model=str(folder), max_tokens=256) as llm:
        for case in cases:
            answer = llm.generate(messages=case.messages, tools=case.tools or None)
            calls = [json.dumps({"name": call.name, "arguments": call.arguments}) for call in answer.tool_calls]
            found.append(answer.content + "".join(f"<tool_call>{call}</tool_call>" for call in calls))
    return found


def leaves(value: Any) -> int:
    """How many values there are to copy, inside lists and objects too."""
    if isinstance(value, (list, dict)):
        return sum(leaves(item) for item in (value.values() if isinstance(value, dict) else value))
    return 1


def size(case: Case) -> str:
    """How much a call has to carry."""
    calls = json.loads(case.expected)
    values = sum(leaves(call["arguments"]) for call in calls)
    return "two calls" if len(calls) > 1 else f"one call, {values} values" if values < 4 else "one call, 4 or more values"


def report_sizes(cases: list[Case], found: list[str]) -> None:
    """The first skill by the number of values to copy."""
    judged = [(size(case), case.right(answer)) for case, answer in zip(cases, found, strict=True) if case.skill[0] == "1"]
    total, right = Counter(name for name, _ in judged), Counter(name for name, good in judged if good)
    print("\n| calls | cases | right |\n|---|---|---|")
    for name in sorted(total):
        print(f"| {name} | {total[name]} | {100 * right[name] / total[name]:.1f}% |")


def report(cases: list[Case], found: list[str], errors: int) -> None:
    """A Markdown table, then the wrong answers."""
    total = Counter(case.skill for case in cases)
    wrong = [(case, answer) for case, answer in zip(cases, found, strict=True) if not case.right(answer)]
    missed = Counter(case.skill for case, _ in wrong)
    print("| skill | cases | right |\n|---|---|---|")
    for skill in sorted(total):
        print(f"| {skill} | {total[skill]} | {100 * (1 - missed[skill] / total[skill]):.1f}% |")
    report_sizes(cases, found)
    shown: Counter[str] = Counter()
    for case, answer in wrong:
        shown[case.skill] += 1
        if shown[case.skill] <= errors:
            print(f"\n[{case.skill}] {json.dumps(case.messages[-1]['content'], ensure_ascii=False)}\n  wanted {case.expected}\n  got    {answer}")


def main() -> None:
    """Evaluate the folder given on the command line, or the one that ships."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("--limit", type=int, default=300, help="cases of every skill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--skills", default="1234567", help="which skills, by their numbers")
    parser.add_argument("--package", action="store_true", help="ask the package, not mlx-lm")
    parser.add_argument("--errors", type=int, default=0, help="how many wrong answers of every skill to show")
    options = parser.parse_args()
    cases = [case for case in make_cases(options.limit, options.seed) if case.skill[0] in options.skills]
    ask = package_answers if options.package else answers
    report(cases, ask(options.folder, cases), options.errors)


if __name__ == "__main__":
    main()
