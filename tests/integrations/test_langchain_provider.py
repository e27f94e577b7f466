"""A chat model of LangChain's as a provider."""

from __future__ import annotations

from abstractllm import create_llm
from abstractllm.integrations.langchain import ChatAbstractLLM
from abstractllm.testing import ProviderConformance

from .langchain_models import AsyncModel, StreamingModel, SyncModel

LOOK_UP = {
    "name": "look_up",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}
ABLE = {"tool_calling": True, "structured_output": True, "image_inputs": True, "pdf_inputs": False}


class Rules(ProviderConformance):
    kind = AsyncModel
    profile = ABLE
    tool_prompt = "Please look up a word."
    tools = (LOOK_UP,)
    names_stops = True

    def make(self):
        return create_llm("langchain", model=self.kind(profile=self.profile))

    def make_failing(self):
        return create_llm("langchain", model=self.kind(error=ConnectionError("refused")))


class TestAsyncModel(Rules):
    """Native on the loop and off it."""


class TestStreamingModel(Rules):
    """Blocks; so it is pulled in a thread."""

    kind = StreamingModel

    def make_waiting(self, gate):
        return create_llm("langchain", model=self.kind(gate=gate))


class TestSyncModel(TestStreamingModel):
    """Has whole answers alone, and holds them to a form by a forced call."""

    kind = SyncModel
    profile = {"tool_calling": True}


class TestOurOwn(ProviderConformance):
    """Echo, through LangChain and back."""

    def make(self):
        return create_llm("langchain", model=ChatAbstractLLM("echo"))
