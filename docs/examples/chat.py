"""Talk with the model that ships, turn by turn, with answers that appear as they are written.

Run it with `python docs/examples/chat.py`. An empty line, or the end of input, leaves.
"""

from __future__ import annotations

import sys

from abstractllm import Message, create_llm


def main() -> None:
    """Take turns until there is nothing more to say."""
    messages: list[Message] = []
    with create_llm("mlx", system_prompt="You are a helpful assistant.") as llm:
        for line in sys.stdin:
            if not line.strip():
                break
            messages.append(Message("user", line.strip()))
            stream = llm.generate(messages=messages, stream=True)
            for chunk in stream:
                print(chunk.content, end="", flush=True)
            print()
            messages.append(stream.response.to_message())


if __name__ == "__main__":
    main()
