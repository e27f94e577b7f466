"""What a session has used, as lines."""

from __future__ import annotations

from collections.abc import Iterator

from abstractllm.cli.output import one_line
from abstractllm.observing.metrics import Metrics
from abstractllm.observing.summary import RequestSummary, Summary, ToolSummary


def usage_lines(metrics: Metrics) -> Iterator[str]:
    """Yield what was counted: requests, tokens, seconds, tool calls, and costs where they are known.

    A model that tells nothing of its requests is counted by the turns of its runs.
    """
    summary = metrics.summary()
    requests = summary.requests
    used = requests.tokens if requests.total else summary.runs.tokens
    yield f"requests    {_requests(summary)}"
    yield f"tokens      {used.prompt} in, {used.cached} of them cached; {used.completion} out"
    yield f"seconds     {_seconds(summary):.1f}"
    yield f"tool calls  {_tool_calls(summary)}"
    if requests.cost:
        yield "cost        " + ", ".join(f"{amount} {currency}" for currency, amount in requests.cost.items())


def _requests(summary: Summary) -> str:
    requests = summary.requests
    if not requests.total:
        return str(summary.runs.turns)
    return f"{requests.total}{_aside(requests)}"


def _aside(requests: RequestSummary) -> str:
    ends = [(requests.failed, "failed"), (requests.cancelled, "stopped")]
    words = ", ".join(f"{number} {word}" for number, word in ends if number)
    return f", {words}" if words else ""


def _seconds(summary: Summary) -> float:
    """Return the seconds of all runs, tools among them."""
    spread = summary.runs.seconds
    return (spread.avg or 0.0) * spread.count


def _tool_calls(summary: Summary) -> str:
    total = sum(tool.total for tool in summary.tools.values())
    if not total:
        return "0"
    return f"{total}: " + ", ".join(f"{one_line(name)} {_tool(tool)}" for name, tool in summary.tools.items())


def _tool(tool: ToolSummary) -> str:
    failed = tool.total - tool.successful
    return f"{tool.total} ({failed} without success)" if failed else f"{tool.total}"
