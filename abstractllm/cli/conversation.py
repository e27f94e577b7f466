"""The state of a chat: the model, the system prompt, the turns so far, and what is attached to the next one."""

from __future__ import annotations

from dataclasses import replace

from abstractllm.cli.answers import Interrupted, Question, can_stream, show_answer
from abstractllm.cli.options import ModelChoice
from abstractllm.files import read_files
from abstractllm.session.files import save_conversation
from abstractllm.types import Message, Part, TextPart


class Conversation:
    """A conversation with a model that can be changed on the way."""

    def __init__(self, choice: ModelChoice) -> None:
        self.choice = choice
        self.system = choice.system
        self.turns: list[Message] = []
        self.attached: list[Part] = []
        for path in choice.files:
            self.attach(path)
        self._llm = choice.create()

    def attach(self, path: str) -> None:
        """Read a file and attach it to the next turn. Raises FileProcessingError."""
        self.attached.extend(read_files([path]))

    def switch(self, spec: str) -> None:
        """Go on with another model; the present one stays when that fails."""
        choice = replace(self.choice, spec=spec)
        llm = choice.create()
        self._llm.close()
        self.choice, self._llm = choice, llm

    def clear(self) -> None:
        """Forget the turns and the attached files; model and system prompt stay."""
        self.turns.clear()
        self.attached.clear()

    def ask(self, text: str) -> None:
        """Ask, show the answer and keep both turns.

        A turn that fails is taken back whole, with its files. An answer that is stopped by Ctrl-C is kept as far as
        it came.
        """
        turn = Message("user", (*self.attached, TextPart(text)) if self.attached else text)
        self.attached.clear()
        request = Question(messages=[*self.turns, turn], system_prompt=self.system)
        try:
            response = show_answer(self._llm, request, stream=can_stream(self._llm))
        except Interrupted as interrupted:
            response = interrupted.response
            if not response.content:
                return
        self.turns += [turn, response.to_message()]

    def save(self, path: str) -> None:
        """Write the conversation as JSON; its `messages` can be passed to `generate`. Raises FileProcessingError."""
        save_conversation(path, self.turns, model=self.choice.spec, system=self.system)

    def close(self) -> None:
        """Close the model."""
        self._llm.close()
