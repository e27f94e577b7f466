"""The usual way to make MLX "async", to measure against: an executor fetches the generator, the loop runs it.

This is the pattern in which many wrappers are written: the generator object comes from a thread at once, because
nothing has run yet, and each of its steps then happens on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any


class SeedPattern:
    """A model whose async stream is `for item in sync_generator` on the loop."""

    def __init__(self, folder: Path, *, never_end: bool = False) -> None:
        import mlx.core as mx
        from mlx_lm import load

        self._model, self._tokenizer = load(str(folder))
        self._model.set_dtype(mx.float32)
        mx.eval(self._model.parameters())
        if never_end:
            self._tokenizer.eos_token_ids = set()

    def encode(self, text: str) -> list[int]:
        """Return the prompt's token ids."""
        messages = [{"role": "user", "content": text}]
        return list(self._tokenizer.apply_chat_template(messages, add_generation_prompt=True))

    def batch(self, prompts: list[list[int]], max_tokens: int) -> int:
        """Answer all prompts with `mlx_lm.batch_generate` and return how many tokens came."""
        from mlx_lm import batch_generate

        copies = [list(prompt) for prompt in prompts]
        answer = batch_generate(self._model, self._tokenizer, copies, max_tokens=max_tokens, return_token_ids=True)
        return sum(len(tokens) for tokens in answer.token_ids)

    def generate(self, prompt: list[int], max_tokens: int) -> Iterator[Any]:
        """Yield mlx-lm's responses one by one."""
        from mlx_lm import stream_generate

        yield from stream_generate(self._model, self._tokenizer, prompt, max_tokens=max_tokens)

    async def generate_async(self, prompt: list[int], max_tokens: int) -> AsyncGenerator[Any, None]:
        """Yield the same, as the pattern does it."""
        loop = asyncio.get_running_loop()
        sync_gen = await loop.run_in_executor(None, lambda: self.generate(prompt, max_tokens))
        for item in sync_gen:
            yield item
            await asyncio.sleep(0.001)
