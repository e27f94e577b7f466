"""Threads for blocking work: a bound, an order, an end."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref

import pytest

from abstractllm.errors import UnsupportedOperationError
from abstractllm.threads import DaemonThreads


@pytest.fixture
def threads():
    executor = DaemonThreads(3, "test")
    yield executor
    executor.shutdown(cancel_futures=True)


def test_results_and_errors_arrive(threads):
    assert threads.submit(divmod, 7, 2).result() == (3, 1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 7, 0).result()


def test_an_exit_in_a_job_ends_neither_the_thread_nor_the_process(threads):
    with pytest.raises(SystemExit):
        threads.submit(sys.exit, 1).result()
    assert threads.submit(int, "1").result() == 1


def test_an_idle_thread_is_used_again(threads):
    one = threads.submit(threading.get_ident)
    one.result()
    idents = {one.result()}
    for _ in range(10):
        threads._idle.acquire()  # the thread says so right after its job's result
        threads._idle.release()
        idents.add(threads.submit(threading.get_ident).result())
    assert len(idents) == 1


def test_never_more_threads_than_the_limit_and_every_job_runs(threads):
    everyone = threading.Barrier(3)
    idents = {job.result() for job in [threads.submit(_meet, everyone) for _ in range(12)]}
    assert len(idents) == 3


def test_a_thread_that_is_held_back_does_not_count(threads):
    gate, all_held = threading.Event(), threading.Barrier(11)

    def held():
        with threads.held_back():
            all_held.wait()
            gate.wait()

    jobs = [threads.submit(held) for _ in range(10)]
    all_held.wait()
    assert threads.submit(int, "1").result() == 1
    gate.set()
    for job in jobs:
        job.result()


def _meet(barrier):
    barrier.wait()
    return threading.get_ident()


def test_shutdown_refuses_new_jobs_and_ends_the_threads(threads):
    job = threads.submit(threading.current_thread)
    threads.shutdown()
    assert not job.result().is_alive()
    with pytest.raises(UnsupportedOperationError, match="closed"):
        threads.submit(int)
    threads.shutdown()


def test_shutdown_drops_the_jobs_that_wait_where_that_is_asked_for():
    threads = DaemonThreads(1, "test")
    gate, running = threading.Event(), threading.Event()
    first = threads.submit(lambda: (running.set(), gate.wait()))
    running.wait()
    second = threads.submit(int)
    threads.shutdown(wait=False, cancel_futures=True)
    assert second.cancelled()
    gate.set()
    assert first.result()
    threads.join()


def test_shutdown_runs_the_jobs_that_wait_otherwise():
    threads = DaemonThreads(1, "test")
    gate = threading.Event()
    threads.submit(gate.wait)
    second = threads.submit(int, "2")
    threads.shutdown(wait=False)
    gate.set()
    assert second.result() == 2


def test_the_threads_of_a_forgotten_executor_end():
    threads = DaemonThreads(1, "test")
    thread = threads.submit(threading.current_thread).result()
    forgotten = weakref.ref(threads)
    del threads
    gc.collect()
    assert forgotten() is None
    thread.join()


def test_exit_does_not_wait_for_a_job_that_never_ends():
    code = (
        "import threading\n"
        "from abstractllm.threads import DaemonThreads, EXIT_GRACE\n"
        "threads = DaemonThreads(1, 'test')\n"
        "threads.submit(threading.Event().wait)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=True).returncode == 0


def test_exit_lets_a_job_end_that_listens():
    code = (
        "import threading\n"
        "from abstractllm.threads import DaemonThreads, at_exit\n"
        "gate = threading.Event()\n"
        "at_exit.add(gate.set)\n"
        "DaemonThreads(1, 'test').submit(lambda: (gate.wait(), print('ended', flush=True)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], timeout=60, check=True, capture_output=True, text=True)
    assert ran.stdout == "ended\n"
