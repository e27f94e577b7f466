"""The agents that `agent_turn.py` compares: each on a scripted model of its own package, with one instant tool.

A contestant is made for a number of turns with a call, and for a sync or an async tool; each use of it is one run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Run = Callable[[], Awaitable[Any]]

DONE = "It is sunny."


def sync_tool(city: str) -> str:
    """Get the weather in a city."""
    return "sunny"


async def async_tool(city: str) -> str:
    """Get the weather in a city."""
    return "sunny"


def tool_of(kind: str) -> Callable[..., Any]:
    return sync_tool if kind == "sync" else async_tool


def bare(turns: int, kind: str) -> Run:
    """No agent: the same questions put to `echo` one after the other, with the results that an agent would have."""
    from abstractllm import Message, ToolCall, create_llm
    from abstractllm.providers.echo import Reply
    from abstractllm.tools import to_tool_definitions

    tools = to_tool_definitions([tool_of(kind)])
    histories = [[Message("user", "What is the weather?")]]
    replies: list[Any] = []
    for number in range(turns):
        call = ToolCall(f"call_{number}", tools[0].name, {"city": "Paris"})
        replies.append(Reply(tool_calls=[call]))
        result = Message("tool", "sunny", name=call.name, tool_call_id=call.id)
        histories.append([*histories[-1], Message("assistant", "", tool_calls=(call,)), result])
    replies.append(Reply(DONE))
    llm = create_llm("echo", replies=lambda request: replies[len(request.messages) // 2])

    async def run() -> None:
        for history in histories:
            await llm.generate_async(messages=history, tools=tools)

    return run


def ours(turns: int, kind: str) -> Run:
    from abstractllm import Agent, Limits, ToolCall, create_llm
    from abstractllm.providers.echo import Reply

    def script(request: Any) -> Reply:
        made = len(request.messages) // 2
        if made == turns:
            return Reply(DONE)
        return Reply(tool_calls=[ToolCall(f"call_{made}", tool_of(kind).__name__, {"city": "Paris"})])

    agent = Agent(create_llm("echo", replies=script), tools=[tool_of(kind)], limits=Limits(turns=turns + 1))
    return lambda: agent.arun("What is the weather?")


def pydantic_ai(turns: int, kind: str) -> Run:
    from pydantic_ai import Agent
    from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
    from pydantic_ai.models.function import AgentInfo, FunctionModel

    def script(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        made = len(messages) // 2
        if made == turns:
            return ModelResponse(parts=[TextPart(DONE)])
        return ModelResponse(parts=[ToolCallPart(tool_of(kind).__name__, {"city": "Paris"}, f"call_{made}")])

    agent = Agent(FunctionModel(script), tools=[tool_of(kind)])
    return lambda: agent.run("What is the weather?")


def openai_agents(turns: int, kind: str) -> Run:
    from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    set_tracing_disabled(True)

    class Script(Model):
        async def get_response(self, system_instructions: Any, input: Any, *rest: Any, **more: Any) -> ModelResponse:
            made = 0 if isinstance(input, str) else len(input) // 2
            if made == turns:
                text = ResponseOutputText(text=DONE, type="output_text", annotations=[], logprobs=[])
                said: Any = ResponseOutputMessage(
                    id="message", type="message", role="assistant", status="completed", content=[text]
                )
            else:
                said = ResponseFunctionToolCall(
                    call_id=f"call_{made}",
                    name=tool_of(kind).__name__,
                    arguments='{"city":"Paris"}',
                    type="function_call",
                )
            return ModelResponse(output=[said], usage=Usage(), response_id=None)

        def stream_response(self, *arguments: Any, **more: Any) -> Any:
            raise NotImplementedError

    agent = Agent(name="agent", model=Script(), tools=[function_tool(tool_of(kind))])
    return lambda: Runner.run(agent, "What is the weather?", max_turns=turns + 1)


def langchain(turns: int, kind: str) -> Run:
    from langchain.agents import create_agent
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage, HumanMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    class Script(BaseChatModel):
        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **more: Any) -> ChatResult:
            made = len(messages) // 2
            call = {"name": tool_of(kind).__name__, "args": {"city": "Paris"}, "id": f"call_{made}"}
            said = AIMessage(DONE) if made == turns else AIMessage("", tool_calls=[call])
            return ChatResult(generations=[ChatGeneration(message=said)])

        async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **more: Any) -> ChatResult:
            return self._generate(messages)

        def bind_tools(self, tools: Any, **more: Any) -> Any:
            return self

        @property
        def _llm_type(self) -> str:
            return "script"

    agent = create_agent(Script(), tools=[tool_of(kind)])
    question = {"messages": [HumanMessage("What is the weather?")]}
    limits = {"recursion_limit": 4 * turns + 10}
    return lambda: agent.ainvoke(question, limits)  # type: ignore[arg-type, return-value]


CONTESTANTS: dict[str, Callable[[int, str], Run]] = {
    "ours": ours,
    "echo alone": bare,
    "pydantic-ai": pydantic_ai,
    "openai-agents": openai_agents,
    "langchain": langchain,
}
