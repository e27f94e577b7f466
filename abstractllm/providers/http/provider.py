"""From a codec and an address to a provider: tries, deadlines, keys, ends. Knows no service and no wire format."""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar
from urllib.parse import urljoin, urlsplit

from abstractllm.capabilities import ModelCapability
from abstractllm.errors import (
    AbstractLLMError,
    AuthenticationError,
    GenerationError,
    ProviderAPIError,
    ProviderConnectionError,
    RequestTimeoutError,
)
from abstractllm.providers.base import BaseProvider
from abstractllm.providers.call import Call
from abstractllm.providers.documents import must_become_text, parts_of, with_documents_as_text
from abstractllm.providers.http.attachments import (
    Attachments,
    check_fetch_urls,
    check_links,
    has_images,
    with_images_fitted,
    with_links_fetched,
    with_links_stood_in,
)
from abstractllm.providers.http.backoff import Backoff
from abstractllm.providers.http.endpoint import Endpoint, read_endpoint
from abstractllm.providers.http.exchange import Held, Streamed, Told
from abstractllm.providers.http.fetching import Fetcher
from abstractllm.providers.http.interrupt import Interrupt
from abstractllm.providers.http.pacing import SETTINGS, Clock, Pacer, SystemClock, Turn, estimated_tokens, read_pace
from abstractllm.providers.http.pools import Pools
from abstractllm.providers.http.secret import Secret
from abstractllm.providers.http.sending import Sending, json_body, sending_to
from abstractllm.providers.http.tls import tls_context
from abstractllm.types import GenerateRequest, GenerateResponse, Message, TextPart

if TYPE_CHECKING:
    from abstractllm.providers.http.connections import Answer, Connections
    from abstractllm.wire.codec import Codec

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is taken from a service: bytes of a whole answer, bytes and seconds of the body of an error.

    `vectors` is the bytes of an answer that holds embeddings, of which one batch of large ones has over a hundred MiB.

    What is to be sent or decoded and has more than `at_once` bytes is worked on in a thread, off the event loop.
    """

    body: int = 64 * 2**20
    vectors: int = 256 * 2**20
    error_body: int = 2**20
    error_seconds: float = 5.0
    at_once: int = 256 * 2**10


@dataclass(frozen=True, slots=True)
class _Begun:
    """A stream whose first deltas are there."""

    answer: Answer
    deltas: Sequence[GenerateResponse]
    rest: Streamed


class HTTPProvider(BaseProvider):
    """Base of providers that speak HTTP. Subclasses set `name`, `defaults["base_url"]`, `path`, and write `_codec`.

    `key_variable` is the service's own environment variable for its key, read where neither `api_key` nor this
    package's variable for it is set; without a key a provider that `needs_key` refuses requests. `max_retries` is how
    many tries there may be after the first; they wait as `backoff` says. `retried` counts them, for all requests.

    `attachments` says which images the service takes, and what it fetches by URL. With `fetch_urls=True`, `fetcher`
    gets what it does not fetch itself.

    `requests_per_minute`, `tokens_per_minute` and `max_concurrency` limit what this instance asks for, each try by
    itself; requests wait for their turn in the order in which they came (see `pacing`). A stream keeps its place among
    the `max_concurrency` until it ends or is closed, so a reader who holds it open holds up the others.

    Proxies and trusted certificates are those of the environment at the first request: HTTP_PROXY, HTTPS_PROXY,
    ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR.
    """

    settings: ClassVar[frozenset[str]] = (
        frozenset({"model", "api_key", "base_url", "max_retries", "fetch_urls"}) | SETTINGS
    )
    path: ClassVar[str] = ""
    key_variable: ClassVar[str | None] = None
    needs_key: ClassVar[bool] = True
    backoff: ClassVar[Backoff] = Backoff()
    limits: ClassVar[Limits] = Limits()
    attachments: ClassVar[Attachments] = Attachments()
    fetcher: ClassVar[Fetcher] = Fetcher()
    clock: ClassVar[Clock] = SystemClock()

    def __init__(self, config: Mapping[str | Any, Any] | None = None, **settings: Any) -> None:
        self._pacer = Pacer(self.clock)
        super().__init__(config, **settings)
        self.retried = 0
        self._pools: Pools[Connections] = Pools()
        self._prepared_for: set[bool] = set()
        weakref.finalize(self, self._pools.close, wait=False).atexit = False

    # What an author writes.

    def _codec(self) -> Codec:
        """Return the wire format. Called for each request, so it should be made once; import it inside."""
        raise NotImplementedError

    def _codec_for(self, request: GenerateRequest) -> Codec:
        """Return the wire format of one request; that of all of them unless a provider speaks several."""
        return self._codec()

    def _attachments(self, request: GenerateRequest) -> Attachments:
        """Return what the service does with the images and documents of one request."""
        return self.attachments

    def _url(self, request: GenerateRequest, base_url: str) -> str:
        """Return the address that a request goes to; `base_url` has no slash at its end."""
        return base_url + self.path

    def _headers(self, request: GenerateRequest, key: Secret | None) -> Mapping[str, str]:
        """Return the headers of a request beside those that describe its body."""
        return {} if key is None else {"Authorization": f"Bearer {key.reveal()}"}

    async def _pause(self, seconds: float) -> None:
        """Wait before another try; for tests to override."""
        await asyncio.sleep(seconds)

    # Configuration.

    def _configure(self, config: Mapping[str, Any]) -> None:
        check_fetch_urls(config.get("fetch_urls"))
        endpoint, pace = self._place(config), read_pace(config)
        self._endpoint = endpoint
        self._pacer.set(pace)

    def _place(self, config: Mapping[str, Any]) -> Endpoint:
        """Return where requests go, and with which key, by a configuration. Raises InvalidParameterError."""
        return read_endpoint(config, self.key_variable)

    def _configured(self, given: Mapping[str, Any]) -> dict[str, Any]:
        config = super()._configured(given)
        if isinstance(config.get("api_key"), str):
            config["api_key"] = Secret(config["api_key"])
        return config

    def get_config(self) -> dict[str, Any]:
        """Return a copy of this instance's configuration, without its key."""
        return {name: value for name, value in super().get_config().items() if name != "api_key"}

    def missing(self) -> str | None:
        """Return how to give the key, where one is needed and there is none."""
        if not self.needs_key or self._endpoint.key is not None:
            return None
        variable = self.key_variable or f"ABSTRACTLLM_{self.name}_API_KEY".upper().replace("-", "_")
        return f"No key; set the environment variable {variable} or pass api_key=."

    def _refuse(self, request: GenerateRequest) -> None:
        if not parts_of(request):
            return super()._refuse(request)
        super()._refuse(with_links_stood_in(request))
        check_links(request, self._taken(request), fetch=bool(self.get_param("fetch_urls")))

    def _check(self, request: GenerateRequest) -> None:
        self._check_key()

    def _check_key(self) -> None:
        """Raise AuthenticationError where the service wants a key and there is none."""
        problem = self.missing()
        if problem is not None:
            raise AuthenticationError(problem, provider=self.name)

    def close(self) -> None:
        """End what still runs and close all connections. Safe to call twice."""
        super().close()
        self._pools.close()

    # One request.

    def _answer(self, request: GenerateRequest, call: Call) -> Coroutine[Any, Any, GenerateResponse] | None:
        return self._whole_answer(request, call)

    async def _whole_answer(self, request: GenerateRequest, call: Call) -> GenerateResponse:
        turn = self._pacer.turn(lambda: estimated_tokens(request), call)
        with self._telling(), Interrupt(call) as interrupt, turn:
            return turn.noted(await self._begun(request, call, interrupt, turn, self._read_whole))

    async def _astream(self, request: GenerateRequest, call: Call) -> AsyncGenerator[GenerateResponse, None]:
        if not request.stream:
            yield await self._whole_answer(request, call)
            return
        turn = self._pacer.turn(lambda: estimated_tokens(request), call)
        with self._telling(), Interrupt(call) as interrupt, turn:
            begun = await self._begun(request, call, interrupt, turn, self._read_beginning)
            with Held(begun.answer):
                for delta in begun.deltas:
                    yield turn.noted(delta)
                while not begun.rest.over:
                    for delta in await begun.rest.more():
                        yield turn.noted(delta)

    def _telling(self) -> Told:
        """Return what completes errors, for `with`."""
        return Told(self._tell)

    def _tell(self, error: AbstractLLMError) -> None:
        """Put this provider's name into an error, and take the key out, as it shows what the service sent."""
        error.provider = error.provider or self.name
        if self._endpoint.key is not None:
            error.message = self._endpoint.key.hide(error.message)
            error.args = (error.message, *error.args[1:])

    async def _begun(
        self,
        request: GenerateRequest,
        call: Call,
        interrupt: Interrupt,
        turn: Turn,
        read: Callable[[GenerateRequest, Codec, Call, Answer], Awaitable[T]],
    ) -> T:
        """Return what `read` makes of the answer, tried for until that is there or another try makes no sense."""
        endpoint = self._endpoint
        await self._ready(endpoint)
        if parts_of(request):
            request = await interrupt.during(self._attached(request))
        codec = self._codec_for(request)
        body = await self._worked(_weight(request.messages), _encoded, codec, request)
        url = self._url(request, endpoint.base_url)
        sending = sending_to(endpoint, url, self._headers(request, endpoint.key), body)
        return await self._tried(sending, call, interrupt, turn, partial(read, request, codec, call))

    async def _tried(
        self, sending: Sending, call: Call, interrupt: Interrupt, turn: Turn, read: Callable[[Answer], Awaitable[T]]
    ) -> T:
        """Return what `read` makes of the answer; both are tried again as long as that makes sense."""
        tries = 0
        while True:
            tries += 1
            if not self._pacer.is_open:
                await interrupt.during(turn.begin())
            try:
                answer = await self._answered(sending, interrupt, connect=call.timeout.connect)
                with Held(answer, keep=True):
                    return await read(answer)
            except AbstractLLMError as error:
                turn.end()
                wait = self._wait(error, tries, sending.endpoint, call)
                if wait is None:
                    raise
            with self._state:
                self.retried += 1
            await interrupt.during(self._pause(wait))

    def _wait(self, error: AbstractLLMError, tries: int, endpoint: Endpoint, call: Call) -> float | None:
        """Return the seconds until another try, or None where there is to be none."""
        from abstractllm.providers.http.connections import worth_another_try
        from abstractllm.wire.failures import may_retry

        if tries > endpoint.max_retries or call.cancelled:
            return None
        broken = isinstance(error, (ProviderConnectionError, RequestTimeoutError))
        if not (worth_another_try(error) if broken else may_retry(error)):
            return None
        room = _room(call)
        if room is not None and room <= 0:
            return 0.0  # a limit that has passed ends the request in this moment, with its own error
        asked = error.retry_after if isinstance(error, ProviderAPIError) else None
        return self.backoff.wait(tries, asked=asked, room=room)

    async def _answered(self, sending: Sending, interrupt: Interrupt, *, connect: float | None = None) -> Answer:
        """Send the request once and return the answer, which has begun and is none of an error."""
        connections = self._pools.found() or await self._pools.made(_connections)
        tls = tls_context() if sending.endpoint.is_secure else None
        posting = connections.post(
            sending.url, sending.headers, sending.body, tls=tls, connect=connect, method=sending.method
        )
        answer = await interrupt.during(posting)
        interrupt.hold(answer)
        if not 200 <= answer.status < 300 or "Content-Encoding" in answer.headers:
            with Held(answer, keep=True):
                await self._check_answer(sending, answer)
        return answer

    async def _check_answer(self, sending: Sending, answer: Answer) -> None:
        if not 200 <= answer.status < 300:
            raise await self._failure(sending, answer)
        encoding = answer.headers.get("Content-Encoding", "identity")
        if encoding.lower() != "identity":
            raise GenerationError(
                f"The service sent a {encoding!r:.40} answer, and none but plain ones were asked for."
            )

    async def _read_beginning(self, request: GenerateRequest, codec: Codec, call: Call, answer: Answer) -> _Begun:
        rest = Streamed(answer, codec.stream_decoder(), request.n)
        return _Begun(answer, await rest.first(), rest)

    async def _read_whole(self, request: GenerateRequest, codec: Codec, call: Call, answer: Answer) -> GenerateResponse:
        body = await answer.whole(self.limits.body, begun=call.first_event)
        answer.close()
        return await self._worked(len(body), codec.decode_response, body)

    async def _failure(self, sending: Sending, answer: Answer) -> AbstractLLMError:
        """Return the error for an answer that is none."""
        from abstractllm.wire.failures import failure

        if 300 <= answer.status < 400:
            return _redirected(answer, sending.url)
        body = await answer.beginning(self.limits.error_body, self.limits.error_seconds)
        if sending.endpoint.key is not None:  # before a long message is cut, perhaps inside the key
            body = sending.endpoint.key.hide(body.decode("latin-1")).encode("latin-1")
        return failure(answer.status, body, answer.headers, provider=self.name)

    async def _ready(self, endpoint: Endpoint) -> None:
        """Have done what takes long and is needed once, before anything is encoded or sent."""
        if endpoint.is_secure not in self._prepared_for:
            await self._in_thread(self._prepare, endpoint.is_secure)

    async def _attached(self, request: GenerateRequest) -> GenerateRequest:
        """Return the request with its files as the service takes them: fetched, as text, made smaller."""
        attachments = self._taken(request)
        if self.get_param("fetch_urls"):
            request = await with_links_fetched(request, attachments, self.fetcher)
        if must_become_text(request, self):  # what was fetched just now
            request = await self._in_thread(with_documents_as_text, request, self)
        if has_images(request):
            request = await self._in_thread(with_images_fitted, request, attachments)
        return request

    def _taken(self, request: GenerateRequest) -> Attachments:
        """Return what is taken in a request; a model that reads no documents needs none by URL."""
        attachments = self._attachments(request)
        reads_none = self.get_capabilities().get(ModelCapability.DOCUMENTS) is False
        return replace(attachments, document_urls=False) if reads_none else attachments

    def _prepare(self, secure: bool) -> None:
        """Do what takes long and is needed once: imports, certificates. Not on an event loop."""
        import abstractllm.providers.http.connections
        import abstractllm.wire.failures  # noqa: F401

        self._codec()
        if secure:
            tls_context()
        self._prepared_for.add(secure)

    async def _worked(self, size: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the function's result, worked out in a thread where `size` bytes are much."""
        if size <= self.limits.at_once:
            return function(*args, **kwargs)
        return await self._in_thread(function, *args, **kwargs)

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._executor().submit(function, *args, **kwargs))


def _connections() -> Connections:
    from abstractllm.providers.http.connections import Connections

    return Connections()


def _encoded(codec: Codec, request: GenerateRequest) -> bytes:
    return json_body(codec.encode_request(request), text="messages")


def _weight(messages: Sequence[Message]) -> int:
    """Return about how many bytes the turns have."""
    return sum(
        len(message.content)
        if isinstance(message.content, str)
        else sum(len(part.text if isinstance(part, TextPart) else part.data) for part in message.content)
        for message in messages
    )


def _room(call: Call) -> float | None:
    """Return the seconds until a limit passes that the first delta has to keep, or None without one."""
    now = time.monotonic()
    ends = [] if call.deadline is None else [call.deadline]
    if call.timeout.first_event is not None and not call.begun:
        ends.append(call.asked + call.timeout.first_event)
    return min(ends) - now if ends else None


def _redirected(answer: Answer, url: str) -> ProviderAPIError:
    """Return the error for a redirect: following it would hand key and prompt to whoever it names."""
    try:
        to = urlsplit(urljoin(url, answer.headers.get("Location", "")))
        place = f"{to.scheme}://{to.netloc.rpartition('@')[2]}{to.path}"
    except ValueError:
        place = "what is no address"
    message = f"The service redirects to {place:.200}, which is not followed; correct base_url."
    return ProviderAPIError(message, status_code=answer.status)
