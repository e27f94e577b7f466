"""Requests beside those for answers, such as the list of models. Knows no service; they are never tried again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from abstractllm.errors import AbstractLLMError, RequestTimeoutError
from abstractllm.providers.call import Call
from abstractllm.providers.http.interrupt import Interrupt
from abstractllm.providers.http.provider import HTTPProvider
from abstractllm.providers.http.sending import Sending, json_body, sending_to
from abstractllm.types import GenerateRequest

if TYPE_CHECKING:
    from abstractllm.providers.http.connections import Answer

_NOTHING = GenerateRequest(())


class ErrandProvider(HTTPProvider):
    """An `HTTPProvider` that asks its service for more than answers, with the same key and connections.

    `patience` is how many seconds a short answer is waited for.
    """

    patience: ClassVar[float] = 30.0

    async def _fetched(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        """Return a short answer, whole. Raises RequestTimeoutError after `patience`, and the errors of an answer."""
        try:
            async with asyncio.timeout(self.patience), self._asked(method, path, body) as answer:
                return await answer.whole(self.limits.body, begun=lambda: None)
        except TimeoutError as error:
            if isinstance(error, AbstractLLMError):
                raise
            message = f"The service did not answer {path} within {self.patience:g} s; is it busy? Try again."
            raise RequestTimeoutError(message, limit="total", provider=self.name) from error

    async def _pieces(self, method: str, path: str, body: Mapping[str, Any]) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of a long answer as they come."""
        async with self._asked(method, path, body) as answer:
            while piece := await answer.read():
                yield piece

    @asynccontextmanager
    async def _asked(self, method: str, path: str, body: Mapping[str, Any] | None) -> AsyncIterator[Answer]:
        """Yield an answer that has begun and is none of an error; closing the provider ends it."""
        call = Call()
        self._calls.add(call)
        try:
            self._check_open()  # after the call was added: either `close` ends it, or it is refused here
            with self._telling(), Interrupt(call) as interrupt:
                answer = await self._answered(await self._errand(method, path, body), interrupt)
                try:
                    yield answer
                finally:
                    answer.close()
        except AbstractLLMError:
            self._check_open()  # whatever breaks in a provider that is being closed means that it was closed
            raise
        finally:
            self._calls.discard(call)

    async def _errand(self, method: str, path: str, body: Mapping[str, Any] | None) -> Sending:
        endpoint = self._endpoint
        await self._ready(endpoint)
        data = b"" if body is None else json_body(body, text="model")
        url = endpoint.base_url + path
        return sending_to(endpoint, url, self._headers(_NOTHING, endpoint.key), data, method=method)
