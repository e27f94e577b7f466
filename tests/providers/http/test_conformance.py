"""The rules of all providers, for one that speaks HTTP."""

from __future__ import annotations

import pytest

from abstractllm.testing import ProviderConformance
from abstractllm.testing.loopback import LoopbackServer, Reply

from ..serving import Opened
from .toy import Toy, friendly


class TestConformance(ProviderConformance):
    """The rules of all providers."""

    prompt = "one two three"
    other_prompts = ("four", "five six")

    @pytest.fixture(autouse=True)
    def server(self):
        self.script = friendly
        with LoopbackServer(lambda request: self.script(request)) as server:
            self.url = server.url
            yield

    def make(self):
        return Toy(self.url)

    def make_failing(self):
        self.script = lambda request: Reply(404, body=b"no such model")
        return self.make()

    def make_waiting(self, gate):
        def waiting(request):
            reply = friendly(request)
            return Reply(chunks=[Opened(gate), *(reply.chunks or [reply.body])])

        self.script = waiting
        return self.make()
