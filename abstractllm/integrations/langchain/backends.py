"""The providers behind chat models: made once for each configuration, at the first call, and shared by who asks for it.

Knows no LangChain and no request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self
from weakref import WeakSet

from abstractllm.errors import UnsupportedOperationError
from abstractllm.factory import Specs, create_llm
from abstractllm.interface import AbstractLLMInterface
from abstractllm.threads import ForkSafeLock

Spec = str | Specs | AbstractLLMInterface
_PLAIN = (str, int, float, bool, type(None))


class Backend:
    """One provider that is made when it is first needed. `holders` are the chat models that may ask it."""

    def __init__(self, spec: Spec, config: Mapping[str, Any]) -> None:
        self.spec = spec
        self.config = dict(config)
        self.holders: WeakSet[Holder] = WeakSet()
        self._left = False
        self._own = not isinstance(spec, AbstractLLMInterface)
        self._lock = ForkSafeLock()
        self.made: AbstractLLMInterface | None = spec if isinstance(spec, AbstractLLMInterface) else None

    def provider(self) -> AbstractLLMInterface:
        """Return the provider; making it loads no model. Raises what `create_llm` raises."""
        if self.made is not None:
            return self.made
        with self._lock:
            if self.made is None:
                if self._left:
                    raise UnsupportedOperationError("This model was closed while it began; make a new one.")
                assert not isinstance(self.spec, AbstractLLMInterface)
                self.made = create_llm(self.spec, **_revealed(self.config))
            return self.made

    def leave(self, holder: Holder) -> AbstractLLMInterface | None:
        """Forget a holder; return the provider if it is to be closed, since nobody else has it."""
        with _known_lock, self._lock:
            self.holders.discard(holder)
            self._left = self._own and not self.holders
            return self.made if self._left else None


class Holder:
    """What one chat model and its copies hold; dropping the last reference gives the providers back."""

    def __init__(self) -> None:
        self._held: list[Backend] = []
        self._lock = ForkSafeLock()
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def get(self, spec: Spec, config: Mapping[str, Any]) -> Backend:
        """Return the backend for a configuration. Raises UnsupportedOperationError once this is closed."""
        found = self._find(spec, config)
        if found is not None:
            return found
        with self._lock:
            found = self._find(spec, config)
            if found is None:
                if self._closed:
                    raise UnsupportedOperationError("This model is closed; make a new one.")
                found = _shared(spec, config, self)
                self._held = [*self._held, found]
            return found

    def _find(self, spec: Spec, config: Mapping[str, Any]) -> Backend | None:
        for backend in self._held:
            if (backend.spec is spec or backend.spec == spec) and backend.config == config:
                return backend
        return None

    def close(self) -> list[AbstractLLMInterface]:
        """Let go of everything; return the providers that are to be closed by who calls this."""
        with self._lock:
            self._closed, held, self._held = True, self._held, []
        return [made for backend in held if (made := backend.leave(self)) is not None]

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[Holder], tuple[()]]:
        return Holder, ()


_known: WeakSet[Backend] = WeakSet()
_known_lock = ForkSafeLock()


def _shared(spec: Spec, config: Mapping[str, Any], holder: Holder) -> Backend:
    """Return the backend that others with this configuration have, or a new one.

    What is not plain text and numbers may have a state of its own, such as a script of answers: that is never shared.
    """
    with _known_lock:
        plain = isinstance(spec, str) and all(isinstance(value, _PLAIN) for value in _revealed(config).values())
        same = (one for one in _known if one.spec == spec and one.config == config and one.holders)
        backend = next(same, None) if plain else None
        if backend is None:
            backend = Backend(spec, config)
            if plain:
                _known.add(backend)
        backend.holders.add(holder)
        return backend


def _revealed(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with the texts of its secrets."""
    return {
        name: value.get_secret_value() if hasattr(value, "get_secret_value") else value
        for name, value in config.items()
    }
