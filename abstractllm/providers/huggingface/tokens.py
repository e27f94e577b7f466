"""The tokenizer of one model as `ChatTokenizer` wants it: transformers' own, with the marks of the model's family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from abstractllm.errors import ModelLoadingError
from abstractllm.providers.huggingface.backend import NAME
from abstractllm.providers.local.hub import read_config, read_template
from abstractllm.providers.local.tokenizer import ChatTokenizer
from abstractllm.text.markers import call_format, thought_marks
from abstractllm.text.toolcalls import Parser


class MarkedTokenizer:
    """A tokenizer of transformers that knows where its model's thoughts and calls begin and end.

    `template` is the text of the chat template, or None. Whatever is not here is the tokenizer's own.
    """

    def __init__(self, tokenizer: Any, template: str | None, stop_tokens: set[int]) -> None:
        self._tokenizer = tokenizer
        self._thoughts = thought_marks(tokenizer.get_vocab())
        self._calls = call_format(template)
        self.has_chat_template = template is not None
        self.eos_token_ids = stop_tokens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __len__(self) -> int:
        return len(self._tokenizer)

    @property
    def init_kwargs(self) -> Mapping[str, Any]:
        """The name of the format of calls, where it stands in mlx-lm's tokenizers."""
        return {} if self._calls is None else {"tool_parser_type": self._calls.name}

    @property
    def has_thinking(self) -> bool:
        """Whether the model thinks in marked sections."""
        return self._thoughts is not None

    @property
    def think_start(self) -> str | None:
        """What thoughts begin with."""
        return None if self._thoughts is None else self._thoughts[0]

    @property
    def think_end(self) -> str | None:
        """What thoughts end with."""
        return None if self._thoughts is None else self._thoughts[1]

    @property
    def has_tool_calling(self) -> bool:
        """Whether the model's calls can be read."""
        return self._calls is not None

    @property
    def tool_call_start(self) -> str | None:
        """What a call begins with."""
        return None if self._calls is None else self._calls.start

    @property
    def tool_call_end(self) -> str | None:
        """What a call ends with; empty where it goes on to the answer's end."""
        return None if self._calls is None else self._calls.end

    @property
    def tool_parser(self) -> Parser | None:
        """What reads a call."""
        return None if self._calls is None else self._calls.parser

    def apply_chat_template(self, messages: Any, **settings: Any) -> Any:
        """Render a conversation; a model that can think is allowed to, whatever its template does if nobody says."""
        return self._tokenizer.apply_chat_template(messages, enable_thinking=self.has_thinking, **settings)


def load_tokenizer(path: Path) -> ChatTokenizer:
    """Load the tokenizer in a model's folder. Raises ModelLoadingError."""
    from transformers import AutoTokenizer

    ends = read_config(path).get("eos_token_id")
    stop_tokens = set(ends) if isinstance(ends, list) else set() if ends is None else {ends}
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
        own_end = tokenizer.eos_token_id
        stop_tokens |= set() if own_end is None else {own_end}
        return ChatTokenizer(MarkedTokenizer(tokenizer, read_template(path), stop_tokens))
    except Exception as error:
        raise ModelLoadingError(
            f"The tokenizer in {path} cannot be loaded ({type(error).__name__}: {error}). Fetch the model again.",
            provider=NAME,
        ) from error
