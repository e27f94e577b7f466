"""Ctrl-C in a reader that waits, at every step of it: the writer goes on."""

import sys
import threading

from abstractllm.agent import feed

READER = {feed.__file__, threading.__file__}


class Interrupted(Exception):
    """What Ctrl-C raises, here."""


def interrupting(step):
    """Return a trace function that raises at that step of the reader, counted in Python's own instructions."""
    left = [step]

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in READER:  # such as what the collector calls at any time
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left[0] -= 1
            if left[0] < 0:
                sys.settrace(None)
                raise Interrupted
        return trace

    return trace


def interrupted(step):
    """Interrupt a reader at a step; return whether it came that far, and whether the writer came to its end."""
    items = feed.Feed()

    def write():
        while not items._wakers and not left.is_set():
            pass
        items.put(1)
        items.end()

    left = threading.Event()
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    before = sys.gettrace()
    try:
        sys.settrace(interrupting(step))
        items.wait_for_news(0)
    except Interrupted:
        came = True
    else:
        came = False
    finally:
        sys.settrace(before)
        left.set()
    writer.join(10)
    return came, not writer.is_alive()


def test_a_reader_interrupted_at_any_step_holds_up_no_writer():
    for step in range(1000):
        came, ended = interrupted(step)
        assert ended, f"the writer hangs after an interrupt at step {step}"
        if not came:
            assert step > 5
            return
    raise AssertionError("the reader never came to its end")
