"""Many inputs for one chat model, a few at a time; each goes the way of any other call, with callbacks and cache."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig

from abstractllm.batch import BatchItem, BatchProgress, run_batch, run_batch_async
from abstractllm.integrations.langchain.failing import told_to_langchain

Told = Callable[[int, int, AIMessage | BaseException], None]
"""How many are done, how many there are, and what the last one became."""


@dataclass(frozen=True, slots=True)
class _Calls:
    """What a batch asks: an input is answered by `ainvoke`."""

    chat: BaseChatModel
    config: RunnableConfig | None

    def generate_async(self, *, input: LanguageModelInput, **given: Any) -> Coroutine[Any, Any, AIMessage]:
        return self.chat.ainvoke(input, self.config, **given)


class BatchingModel(BaseChatModel):
    """A chat model with batches that tell how far they are."""

    async def abatch_with_concurrency(
        self,
        inputs: Sequence[LanguageModelInput],
        max_concurrency: int = 5,
        *,
        callback: Told | None = None,
        config: RunnableConfig | None = None,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Return a message for each input, in their order, at most `max_concurrency` of them asked for at a time.

        `callback` is called as they end. `kwargs`, such as `stop`, go with each call, `config` too. The first error
        ends what still runs and is raised; with `return_exceptions`, it stands in the place of its message.
        """
        calls, prompts, told = self._batch(inputs, config, callback, return_exceptions)
        with told_to_langchain():
            items = await run_batch_async(calls, prompts, max_concurrency, told, kwargs)
        return [_outcome(item) for item in items]

    def batch_with_progress(
        self,
        inputs: Sequence[LanguageModelInput],
        max_concurrency: int = 5,
        *,
        callback: Told | None = None,
        config: RunnableConfig | None = None,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[Any]:
        """Do what `abatch_with_concurrency` does; `callback` is called in this thread, where a loop may be running."""
        calls, prompts, told = self._batch(inputs, config, callback, return_exceptions)
        with told_to_langchain():
            items = run_batch(calls, prompts, max_concurrency, told, kwargs)
        return [_outcome(item) for item in items]

    def _batch(
        self,
        inputs: Sequence[LanguageModelInput],
        config: RunnableConfig | None,
        callback: Told | None,
        return_exceptions: bool,
    ) -> tuple[Any, list[dict[str, Any]], Callable[[BatchProgress], None]]:
        """Return what `run_batch` needs: whom to ask, what, and what to do with each item as it ends."""
        total = len(inputs)

        def told(progress: BatchProgress) -> None:
            if progress.item.error is not None and not return_exceptions:
                raise progress.item.error
            if callback is not None:
                callback(progress.done, total, _outcome(progress.item))

        return _Calls(self, config), [{"input": one} for one in inputs], told


def _outcome(item: BatchItem) -> AIMessage | BaseException:
    return item.error if item.error is not None else cast(AIMessage, item.response)
