"""What users of langchain-maritaca have, where it works: retries, models on offer, costs, batches, embeddings."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage, HumanMessage

from abstractllm import Metrics, create_llm
from abstractllm.errors import (
    ContextWindowExceededError,
    InvalidParameterError,
    ProviderAPIError,
    ProviderConnectionError,
    QuotaExceededError,
    UnsupportedFeatureError,
)
from abstractllm.integrations.langchain import ChatAbstractLLM, ChatMaritaca, CostTrackingCallback, DeepInfraEmbeddings
from abstractllm.testing.loopback import LoopbackServer, Reply

from ..providers.maritaca_service import ANSWER, KEY, OK, STREAM, TOOL, Quick, chunk, events, reply

SAID = "O Pelourinho, em Salvador."
MODELS = {
    "object": "list",
    "data": [
        {"id": name, "created": 1767657600, "object": "model", "context_length": length, "max_completion_tokens": 32000}
        for name, length in (
            ("sabia-4-thinking", 128000),
            ("sabia-4", 128000),
            ("sabiazinho-4", 32000),
            ("sabia-5", None),
        )
    ],
}


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in ("MARITACA_API_KEY", "DEEPINFRA_API_KEY", "DEEPINFRA_API_BASE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def service():
    """Start a service with a script, and return it; it ends with the test."""
    running = []

    def start(*script):
        server = LoopbackServer(script[0] if len(script) == 1 and callable(script[0]) else script)
        running.append(server)
        return server.__enter__()

    yield start
    for server in running:
        server.__exit__(None, None, None)


MADE = []
"""The chat models of a test, which are closed at its end."""


@pytest.fixture(autouse=True)
async def _closing():
    """Close them on their own loop."""
    yield
    for model in MADE:
        await model.aclose()
    MADE.clear()


def maritaca(server, **fields):
    MADE.append(ChatMaritaca(api_key=KEY, base_url=server.url, **fields))
    return MADE[-1]


def quick(server):
    """Return a chat model that waits for nothing between its tries."""
    MADE.append(Quick(base_url=server.url, api_key=KEY))
    return ChatAbstractLLM(MADE[-1])


async def faces(model):
    """Yield what each way to ask a model gives, as text."""
    yield model.invoke("a").content
    yield (await model.ainvoke("a")).content
    yield "".join(one.content for one in model.stream("a"))
    yield "".join([one.content async for one in model.astream("a")])


# Retries.


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
async def test_each_status_that_may_pass_is_tried_again(service, status):
    """Streams too, which langchain-maritaca never tries again."""
    bad = reply({"error": {"message": "not now"}}, status)
    server = service(bad, OK, bad, OK, bad, STREAM, bad, STREAM)
    assert [text async for text in faces(quick(server))] == [SAID] * 4
    assert len(server.requests) == 8


async def test_a_broken_connection_is_tried_again(service):
    server = service(Reply.hang_up(), OK, Reply.hang_up(), OK, Reply.hang_up(), STREAM, Reply.hang_up(), STREAM)
    assert [text async for text in faces(quick(server))] == [SAID] * 4


@pytest.mark.parametrize("wait", ["0", "0.001", format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)])
def test_every_form_of_retry_after_is_understood(service, wait):
    """A fraction or a date is no crash."""
    server = service(reply({}, 429, **{"Retry-After": wait}), OK)
    assert maritaca(server).invoke("a").content == SAID


def test_what_cannot_pass_is_not_tried_again(service):
    server = service(*[reply({"error": {"message": "no"}}, 400)] * 3)
    with pytest.raises(ProviderAPIError):
        quick(server).invoke("a")
    assert len(server.requests) == 1


def test_tries_are_as_many_as_was_said(service):
    server = service(*[reply({}, 429, **{"Retry-After": "0"})] * 5)
    with pytest.raises(QuotaExceededError):
        maritaca(server, max_retries=1).invoke("a")
    assert len(server.requests) == 2
    gone = service(*[Reply.hang_up()] * 5)
    with pytest.raises(ProviderConnectionError):
        maritaca(gone, max_retries=0).invoke("a")


# Streams and tools.


async def test_streamed_calls_arrive_and_nothing_of_a_stream_breaks(service):
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"wo'}}
    more = {"index": 0, "function": {"arguments": 'rd":"é"}'}}
    stream = events(
        chunk({"role": "assistant", "content": None}),
        chunk({"tool_calls": [call]}),
        chunk({"tool_calls": [more]}),
        chunk({}, "tool_calls"),
        chunk(None, usage=ANSWER["usage"]),
    )
    server = service(stream)
    whole = None
    async for one in (
        maritaca(server).bind_tools([{"type": "function", "function": TOOL}], tool_choice="any").astream("a")
    ):
        whole = one if whole is None else whole + one
    assert whole.tool_calls == [{"name": "look_up", "args": {"word": "é"}, "id": "c1", "type": "tool_call"}]
    assert whole.usage_metadata["output_tokens"] == 300
    assert whole.response_metadata["model_name"] == "sabia-4"
    sent = json.loads(server.requests[0].body)
    assert (sent["tool_choice"], sent["stream_options"]) == ("required", {"include_usage": True})


# Costs.


async def test_every_answer_tells_what_it_cost(service):
    """200 fresh and 1000 cached tokens of the prompt, 300 of the answer; a stream that was served as flex is half."""
    model = maritaca(service(OK, STREAM))
    whole = model.invoke("a")
    assert whole.response_metadata["cost"] == {"amount": "0.00825", "currency": "BRL"}
    streamed = None
    async for one in model.astream("a"):
        streamed = one if streamed is None else streamed + one
    assert streamed.response_metadata["cost"] == {"amount": "0.00475", "currency": "BRL"}


def test_costs_come_through_a_provider_that_asks_through_langchain(service):
    metrics = Metrics()
    with create_llm("langchain", model=maritaca(service(OK, STREAM))) as llm:
        llm.observers.append(metrics)
        llm.generate("a")
        list(llm.generate("a", stream=True))
    assert [one.cost.amount for one in metrics.requests] == [Decimal("0.00825"), Decimal("0.00475")]


def test_an_estimate_is_by_the_one_table_and_counts_tools():
    model = ChatMaritaca(api_key=KEY, model="sabia-4-thinking")
    found = model.estimate_cost([HumanMessage("x" * 3000)], max_output_tokens=1_000_000)
    assert (found["output_cost"], found["currency"], found["model"]) == (Decimal(40), "BRL", "sabia-4-thinking")
    assert found["input_cost"] == Decimal(5) * found["input_tokens"] / 1_000_000
    assert found["total_cost"] == found["input_cost"] + found["output_cost"]
    assert 1000 <= found["input_tokens"] <= 1010
    assert model.estimate_cost("a", tools=[TOOL])["input_tokens"] > model.estimate_cost("a")["input_tokens"] + 20
    with pytest.raises(UnsupportedFeatureError, match="price"):
        ChatMaritaca(api_key=KEY, model="sabia-99").estimate_cost("a")
    with pytest.raises(UnsupportedFeatureError, match="price"):
        ChatAbstractLLM("echo").estimate_cost("a")


async def test_the_estimate_of_a_batch_is_the_sum():
    model = ChatMaritaca(api_key=KEY, model="sabiazinho-4")
    each = [model.estimate_cost(text, 500) for text in ("one", "two and more")]
    found = await model.abatch_estimate_cost(["one", "two and more"], 500)
    assert found["total_cost"] == sum(one["total_cost"] for one in each)
    assert found["total_input_tokens"] == sum(one["input_tokens"] for one in each)
    assert (found["total_requests"], found["total_output_tokens"]) == (2, 1000)
    nothing = await model.abatch_estimate_cost([])
    assert (nothing["total_requests"], nothing["total_cost"], nothing["currency"]) == (0, 0, "BRL")


# Models on offer.


async def test_models_are_those_that_the_service_tells(service):
    model = maritaca(service(reply(MODELS), reply(MODELS)))
    found = model.list_available_models()
    assert list(found) == ["sabia-4-thinking", "sabia-4", "sabiazinho-4", "sabia-5"]
    assert found["sabiazinho-4"] == {
        "name": "sabiazinho-4",
        "context_limit": 32000,
        "max_output_tokens": 32000,
        "input_cost_per_1m": Decimal("1.00"),
        "output_cost_per_1m": Decimal("4.00"),
        "currency": "BRL",
    }
    assert found["sabia-5"]["input_cost_per_1m"] is None
    found["sabia-4"]["context_limit"] = 1  # of nobody else's table
    assert (await model.alist_available_models())["sabia-4"]["context_limit"] == 128000


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ({}, "sabia-4"),
        ({"task_complexity": "complex"}, "sabia-4-thinking"),
        ({"task_complexity": "complex", "priority": "cost"}, "sabia-4"),
        ({"task_complexity": "simple", "priority": "cost"}, "sabiazinho-4"),
        ({"priority": "speed"}, "sabiazinho-4"),
        ({"priority": "speed", "input_length": 50_000}, "sabia-4"),
    ],
)
async def test_a_recommendation_is_of_what_there_is_and_long_enough(service, asked, model):
    server = service(reply(MODELS), reply(MODELS))
    found = maritaca(server).recommend_model(**asked)
    assert found["model"] == found["specs"]["name"] == model
    assert model in found["reason"]
    assert model not in [one["name"] for one in found["alternatives"]]
    assert await maritaca(server).arecommend_model(**asked) == found


def test_a_recommendation_that_cannot_be_made(service):
    model = maritaca(service(reply({**MODELS, "data": MODELS["data"][:3]})))
    with pytest.raises(ContextWindowExceededError) as caught:
        model.recommend_model(input_length=10**6)
    assert caught.value.context_window == 128000
    with pytest.raises(InvalidParameterError, match="priority"):
        model.recommend_model(priority="beauty")
    with pytest.raises(InvalidParameterError, match="task_complexity"):
        model.recommend_model(task_complexity="none")


# Batches.


def sent(request):
    return json.loads(request.body)["messages"][-1]["content"]


def saying_back(request):
    text = sent(request)
    if text == "bad":
        return reply({"error": {"message": "no"}}, 400)
    return reply({**ANSWER, "choices": [{**ANSWER["choices"][0], "message": {"role": "assistant", "content": text}}]})


async def test_a_batch_gives_messages_in_order_with_callbacks_and_cache(service):
    server = service(saying_back)
    costs = CostTrackingCallback()
    model = maritaca(server, cache=InMemoryCache(), callbacks=[costs])
    told = []
    inputs = [f"number {number % 4}" for number in range(4)]
    found = await model.abatch_with_concurrency(inputs, 2, callback=lambda *of: told.append(of))
    assert [one.content for one in found] == inputs
    assert all(isinstance(one, AIMessage) for one in found)
    assert [(done, total) for done, total, _ in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert costs.call_count == 4
    again = await model.abatch_with_concurrency(inputs)
    assert [one.content for one in again] == inputs
    assert len(server.requests) == 4  # the second time from the cache
    assert costs.call_count == 4


async def test_a_blocking_batch_works_in_a_running_loop(service):
    model = maritaca(service(saying_back))
    told = []
    found = model.batch_with_progress(["a", "b"], callback=lambda done, total, one: told.append((done, total)))
    assert [one.content for one in found] == ["a", "b"]
    assert told == [(1, 2), (2, 2)]


async def test_an_error_in_a_batch_is_raised_or_is_its_item(service):
    model = maritaca(service(saying_back))
    found = await model.abatch_with_concurrency(["a", "bad", "b"], return_exceptions=True)
    assert [getattr(one, "content", None) for one in found] == ["a", None, "b"]
    assert isinstance(found[1], ProviderAPIError)
    with pytest.raises(ProviderAPIError):
        await model.abatch_with_concurrency(["a", "bad", "b"])
    with pytest.raises(ProviderAPIError):
        model.batch_with_progress(["bad"])
    with pytest.raises(InvalidParameterError, match="concurrency"):
        await model.abatch_with_concurrency(["a"], 0)


async def test_at_most_so_many_are_asked_at_a_time():
    """Three meet, or nobody goes on; more never do."""
    running, most, three = 0, 0, asyncio.Barrier(3)

    class Meeting(ChatAbstractLLM):
        async def _agenerate(self, *args, **kwargs):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await three.wait()
            running -= 1
            return await super()._agenerate(*args, **kwargs)

    inputs = [str(number) for number in range(9)]
    await asyncio.wait_for(Meeting("echo").abatch_with_concurrency(inputs, 3), 10)
    assert most == 3


def test_what_goes_with_each_call_of_a_batch():
    found = ChatAbstractLLM("echo").batch_with_progress(["one two"], stop=["two"], config={"tags": ["t"]})
    assert found[0].content == "one "


# Embeddings.


def vectors(request):
    asked = json.loads(request.body)
    data = [
        {"index": number, "embedding": [float(len(text))], "object": "embedding"}
        for number, text in enumerate(asked["input"])
    ]
    return reply(
        {"object": "list", "data": data, "model": asked["model"], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
    )


async def test_embeddings_begin_as_their_model_wants(service, monkeypatch):
    server = service(vectors)
    monkeypatch.setenv("DEEPINFRA_API_KEY", "deep-0123")
    monkeypatch.setenv("DEEPINFRA_API_BASE", server.url)
    model = DeepInfraEmbeddings()
    assert model.embed_documents(["a", "bb"]) == await model.aembed_documents(["a", "bb"]) == [[10.0], [11.0]]
    assert model.embed_query("a") == await model.aembed_query("a") == [8.0]
    inputs = [json.loads(request.body)["input"] for request in server.requests]
    assert inputs == [["passage: a", "passage: bb"]] * 2 + [["query: a"]] * 2
    assert server.requests[0].headers["authorization"] == "Bearer deep-0123"
    other = DeepInfraEmbeddings("BAAI/bge-m3", api_key="k", base_url=server.url)
    assert other.embed_query("a") == [1.0]
    own = DeepInfraEmbeddings(api_key="k", base_url=server.url, query_prefix="")
    assert own.embed_query("a") == [1.0]


def test_embeddings_need_a_key():
    with pytest.raises(InvalidParameterError, match="DEEPINFRA_API_KEY"):
        DeepInfraEmbeddings()
