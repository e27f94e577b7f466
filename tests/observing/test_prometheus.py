"""The text for Prometheus, read by a parser that takes nothing but what the format allows."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies as st

from abstractllm import Metrics
from abstractllm.agent.events import RunFinished, RunInfo, RunStarted, ToolFinished, ToolOutcome
from abstractllm.errors import GenerationError
from abstractllm.observing.distribution import SECONDS
from abstractllm.providers.run import GenerationEvent
from abstractllm.types import GenerateRequest, GenerateResponse, Message, Timings, ToolCall, Usage

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)')
ESCAPES = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def parse(text):
    """Return the metrics in exposition text: {name: (type, {(sample's name, labels): number})}; asserts its rules."""
    assert text == "" or text.endswith("\n")
    metrics, helped, current = {}, set(), None
    for line in text.split("\n")[:-1]:
        if line.startswith("# HELP "):
            _, _, current, told = line.split(" ", 3)
            assert NAME.fullmatch(current)
            assert told
            assert current not in helped, "one HELP for each metric"
            helped.add(current)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == current, "TYPE follows its HELP, before any sample"
            assert kind in ("counter", "histogram", "gauge")
            metrics[name] = (kind, {})
        else:
            add(metrics, current, line)
    for kind, samples in metrics.values():
        if kind == "histogram":
            check_histogram(samples)
    return metrics


def add(metrics, current, line):
    found = SAMPLE.fullmatch(line)
    assert found, line
    kind, samples = metrics[current]
    suffix = found["name"].removeprefix(current)
    assert suffix in (("_bucket", "_sum", "_count") if kind == "histogram" else ("",)), (
        "samples stand under their metric"
    )
    key = (found["name"], labels(found["labels"] or ""))
    assert key not in samples, "one sample for each set of labels"
    samples[key] = float(found["value"])
    assert samples[key] >= 0


def labels(text):
    found, place = [], 0
    while place < len(text):
        one = LABEL.match(text, place)
        assert one, text[place:]
        found.append((one[1], re.sub(r'\\[\\"n]', lambda escape: ESCAPES[escape[0]], one[2])))
        place = one.end()
    assert not text.endswith(",")
    assert len({name for name, _ in found}) == len(found)
    return tuple(found)


def check_histogram(samples):
    series = {}
    for (name, pairs), number in samples.items():
        rest = tuple(pair for pair in pairs if pair[0] != "le")
        bound = dict(pairs).get("le")
        assert (bound is not None) == name.endswith("_bucket")
        series.setdefault(rest, {})[bound or name.rpartition("_")[2]] = number
    for found in series.values():
        total = found.pop("count")
        found.pop("sum")
        bounds = list(found)
        assert bounds[-1] == "+Inf"
        assert [float(bound) for bound in bounds] == sorted(float(bound) for bound in bounds)
        assert list(found.values()) == sorted(found.values()), "buckets count all values up to their bound"
        assert found["+Inf"] == total


def request(model="m", kind="finished", seconds=0.5, usage=None, timings=None, error=None):
    asked = GenerateRequest((Message("user", "Hi"),), model=model)
    return GenerationEvent(kind, "p", asked, GenerateResponse(usage=usage, timings=timings), error, seconds)


def test_nothing_counted_is_valid_text():
    found = parse(Metrics().to_prometheus())
    assert "abstractllm_requests_total" in found
    assert all(samples == {} for _, samples in found.values())


def test_everything_that_was_counted_is_there():
    metrics = Metrics({"m": {"input": 1_000_000, "output": 0, "currency": "USD"}})
    metrics(request(usage=Usage(3, 4, 2, 1), timings=Timings(0.1, 0.2)))
    metrics(request(seconds=100.0))
    metrics(request(kind="failed", error=GenerationError("no")))
    info = RunInfo("r", "helper", "p")
    metrics(info, RunStarted(()))
    metrics(info, ToolFinished(ToolCall("1", "add"), ToolOutcome("ok", "", seconds=0.01)))
    metrics(info, RunFinished(SimpleNamespace(usage=Usage(), turns=3, stop="limit")))
    found = parse(metrics.to_prometheus())
    model = (("provider", "p"), ("model", "m"))

    def sample(name, *more, of=model, suffix=""):
        return found[f"abstractllm_{name}"][1][f"abstractllm_{name}{suffix}", (*of, *more)]

    outcomes = [sample("requests_total", ("outcome", kind)) for kind in ("finished", "failed", "cancelled")]
    assert outcomes == [2, 1, 0]
    assert sample("request_errors_total", ("error", "GenerationError")) == 1
    tokens = [sample(f"{kind}_tokens_total") for kind in ("prompt", "completion", "cached", "reasoning")]
    assert tokens == [3, 4, 2, 1]
    assert sample("cost_total", ("currency", "USD")) == 3
    assert sample("request_duration_seconds", suffix="_sum") == 100.5
    assert sample("request_duration_seconds", ("le", "0.64"), suffix="_bucket") == 1
    assert sample("request_duration_seconds", ("le", "+Inf"), suffix="_bucket") == 2
    assert sample("first_token_seconds", suffix="_count") == 1
    agent, tool = (("agent", "helper"),), (("agent", "helper"), ("tool", "add"))
    assert sample("tool_calls_total", ("kind", "ok"), of=tool) == 1
    assert sample("tool_duration_seconds", ("le", "0.01"), of=tool, suffix="_bucket") == 1
    assert sample("runs_total", ("stop", "limit"), of=agent) == 1
    assert sample("run_turns_total", of=agent) == 3


@given(st.lists(st.tuples(st.text() | st.sampled_from(['a"b', "a\\", "a\nb", "\\n", ""]), st.floats(0, 1e6))))
def test_any_name_and_any_time_gives_valid_text(told):
    metrics = Metrics()
    for model, seconds in told:
        metrics(request(model, seconds=seconds))
    samples = parse(metrics.to_prometheus())["abstractllm_requests_total"][1]
    assert {dict(pairs)["model"] for _, pairs in samples} == {model for model, _ in told}
    assert sum(samples.values()) == len(told)


def test_names_that_cannot_be_sent_are_told_apart_from_others():
    metrics = Metrics()
    for model in ("?", "\ud800", "\udfff"):
        metrics(request(model))
    text = metrics.to_prometheus()
    assert text.encode("utf-8")
    assert len(parse(text)["abstractllm_request_duration_seconds"][1]) == 3 * (len(SECONDS) + 3)


def test_the_buckets_are_the_same_for_everything():
    metrics = Metrics()
    metrics(request())
    _, samples = parse(metrics.to_prometheus())["abstractllm_request_duration_seconds"]
    bounds = [dict(pairs)["le"] for name, pairs in samples if name.endswith("_bucket")]
    assert [float(one) for one in bounds] == [*SECONDS, float("inf")]


@pytest.mark.parametrize(
    "text",
    [
        "a 1\n",
        "# HELP a x\n# TYPE a counter\na 1",
        '# HELP a x\n# TYPE a counter\na{b="c\n"} 1\n',
        '# HELP a x\n# TYPE a counter\na{b="c"} 1\na{b="c"} 2\n',
        "# HELP a x\n# TYPE a counter\nb 1\n",
        "# HELP a x\n# TYPE a counter\na -1\n",
        '# HELP a x\n# TYPE a histogram\na_bucket{le="1"} 2\na_bucket{le="+Inf"} 1\na_sum 1\na_count 1\n',
    ],
)
def test_the_parser_is_strict(text):
    with pytest.raises((AssertionError, KeyError)):
        parse(text)
