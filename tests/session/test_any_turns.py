"""Any turns in any order, that end in any way: the history is paired, the store equals it, nobody waits for ever."""

import asyncio
import tempfile

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from abstractllm import AbstractLLMError, Session, SessionStoreError, SQLiteStore, StopRun, ToolRetry, create_llm, tool
from abstractllm.history import unanswered
from abstractllm.providers.echo import Reply

from .models import calling, is_paired

WAYS = ["good", "bad", "retry", "stop", "slow", "secret", "unknown"]


async def good() -> str:
    await asyncio.sleep(0)
    return "good"


def bad() -> str:
    raise ValueError("bad")


def retry() -> str:
    raise ToolRetry("again")


def stop() -> str:
    raise StopRun("stopped")


async def slow() -> str:
    for _ in range(20):
        await asyncio.sleep(0)
    return "slow"


@tool(approval=True)
def secret() -> str:
    return "secret"


class Failing(SQLiteStore):
    fails = False

    def append(self, id, messages, *, after=None):
        self.check()
        return super().append(id, messages, after=after)

    def replace(self, id, messages, *, after=None):
        self.check()
        return super().replace(id, messages, after=after)

    def check(self):
        if self.fails:
            raise SessionStoreError("no")


replies = (
    st.builds(calling, st.sampled_from(WAYS), st.sampled_from(WAYS), content=st.sampled_from(["", "Let me see."]))
    | st.builds(calling, st.sampled_from(WAYS))
    | st.sampled_from([Reply("One two three."), Reply(""), Reply("One two.", error=ValueError("lost"), error_after=1)])
)
prompts = st.sampled_from(["Hi", "Ho"])


class Conversation(RuleBasedStateMachine):
    """Turns of one session, whose model plays whatever is drawn."""

    @initialize()
    def open(self):
        self.folder = tempfile.TemporaryDirectory()
        self.store = Failing(self.folder.name + "/s.db")
        self.script = []
        llm = create_llm("echo", replies=lambda request: self.script.pop(0) if self.script else "Done.")
        self.tools = [good, bad, retry, stop, slow, secret]
        self.session = Session(llm, tools=self.tools, store=self.store, id="ana")
        self.llm = llm

    def teardown(self):
        if hasattr(self, "store"):
            self.play([])
            assert asyncio.run(asyncio.wait_for(self.session.send_async("The last one."), 20)) is not None
            self.whole()
            self.store.close()
            self.folder.cleanup()

    def play(self, script):
        self.script[:] = script

    @rule(prompt=prompts, script=st.lists(replies, max_size=3), streamed=st.booleans())
    def send(self, prompt, script, streamed):
        self.play(script)
        before = self.session.messages
        try:
            said = self.session.send(prompt, stream=streamed)
            text = "".join(said) if streamed else str(said)
        except AbstractLLMError:
            assert self.session.messages == before
            return
        last = [message.text for message in self.session.messages[len(before) :] if message.role == "assistant"]
        assert text == "\n\n".join(filter(None, last))

    @rule(prompt=prompts, script=st.lists(replies, max_size=3), steps=st.integers(0, 60), streamed=st.booleans())
    def cancel(self, prompt, script, steps, streamed):
        self.play(script)

        async def main():
            run = self.session.stream(prompt)
            task = asyncio.ensure_future(drain(run) if streamed else run.wait())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        asyncio.run(main())

    @rule(count=st.integers(2, 4), script=st.lists(replies, max_size=6), cancelled=st.integers(0, 3))
    def several(self, count, script, cancelled):
        self.play(script)

        async def main():
            tasks = [asyncio.create_task(self.session.send_async(str(number))) for number in range(count)]
            await asyncio.sleep(0)
            tasks[cancelled % count].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(main())

    @rule(prompt=prompts, script=st.lists(replies, max_size=2), pieces=st.integers(1, 3))
    def leave(self, prompt, script, pieces):
        self.play(script)
        try:
            for number, _ in enumerate(self.session.send(prompt, stream=True), 1):
                if number == pieces:
                    break
        except AbstractLLMError:
            return

    @rule(decisions=st.lists(st.sampled_from([True, False, "why"]), min_size=9, max_size=9), script=st.lists(replies))
    def approve(self, decisions, script):
        self.play(script)
        calls = [call.id for call in self.session.pending]
        if not calls:  # no precondition: where a turn was cancelled is not the same each time
            return
        try:
            self.session.send(approvals=dict(zip(calls, decisions, strict=False)))
        except AbstractLLMError:
            assert [call.id for call in self.session.pending] == calls

    @rule(prompt=prompts)
    def lose(self, prompt):
        before = self.session.messages
        self.play([])
        self.store.fails = True
        try:
            self.session.send(prompt)
        except SessionStoreError as error:
            assert error.result.text == "Done."
        else:
            raise AssertionError("the store did not fail")
        finally:
            self.store.fails = False
        assert self.session.messages == before

    @rule(prompt=prompts)
    def clash(self, prompt):
        self.play([])
        Session(self.llm, tools=self.tools, store=self.store, id="ana").send(prompt)
        try:
            self.session.send(prompt)
        except SessionStoreError:
            self.session.reload()
        else:
            raise AssertionError("the other writer went unnoticed")

    @rule()
    def clear(self):
        self.session.clear()

    @rule()
    def reopen(self):
        self.session = Session(self.llm, tools=self.tools, store=self.store, id="ana")

    @invariant()
    def whole(self):
        kept = self.session.messages
        assert self.store.messages("ana") == kept
        waiting = unanswered(kept)
        settled = kept if not waiting else kept[: last_assistant(kept)]
        assert is_paired(settled)
        assert all(call.name == "secret" for call in waiting)


async def drain(run):
    async for _ in run:
        pass


def last_assistant(messages):
    return max(number for number, message in enumerate(messages) if message.role == "assistant")


Conversation.TestCase.settings = settings(max_examples=25, stateful_step_count=12)
test_any_turns = Conversation.TestCase
