"""The classes of the services that speak OpenAI's Chat Completions, by name."""

from __future__ import annotations

from abstractllm.providers import compatible
from abstractllm.providers.compatible import CompatibleProvider
from abstractllm.providers.maritaca import MaritacaProvider

CLASSES = {
    kind.name: kind
    for kind in (*vars(compatible).values(), MaritacaProvider)
    if isinstance(kind, type) and issubclass(kind, CompatibleProvider) and kind is not CompatibleProvider
}
