"""A backend of your own: one method gives sync and async, whole and streamed.

Run it with `python docs/examples/custom_provider.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from abstractllm import GenerateRequest, GenerateResponse, Usage, create_llm, register_provider
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.call import Call


class Reverse(BaseProvider):
    """Says the words of the prompt backwards."""

    name = "reverse"
    api_version = 1
    parameters = frozenset({"max_tokens"})

    def _stream(self, request: GenerateRequest, call: Call) -> Iterator[GenerateResponse]:
        prompt = request.messages[-1].text.split()
        words = prompt[::-1][: request.max_tokens]
        for number, word in enumerate(words):
            if call.cancelled:
                return
            yield GenerateResponse(content=f" {word}" if number else word)
        cut = len(words) < len(prompt)
        usage = Usage(len(prompt), len(words))
        yield GenerateResponse(finish_reason="length" if cut else "stop", usage=usage)


async def stream(prompt: str) -> None:
    """Show the async stream that came for free."""
    async with create_llm("reverse") as llm:
        async for chunk in llm.generate_async(prompt, stream=True):
            print(chunk.content, end="|")
    print()


def main() -> None:
    """Use the provider by its name."""
    register_provider("reverse", Reverse)
    with create_llm("reverse?max_tokens=2") as llm:
        response = llm.generate("one two three")
        print(response.content, response.finish_reason)
    asyncio.run(stream("one two three"))


if __name__ == "__main__":
    main()
