"""What all tests of the transport keep: no proxy of the machine, no descriptor that leaks, no warning lost."""

from __future__ import annotations

import gc
import warnings

import pytest

from abstractllm.portal import portal

from .toy import PROXIES, descriptors, settled


@pytest.fixture(autouse=True, scope="module")
def quick_collections():
    """Keep what is there already out of the garbage collector's way; it runs twice a test."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_leaks(monkeypatch):
    """Every test leaves as many sockets as it found, no proxy of the machine is used, and no warning is lost."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    portal()
    gc.collect()
    before = descriptors()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert settled(lambda: descriptors() <= before), f"{descriptors() - before} descriptors leak"
    assert [str(warning.message) for warning in caught] == []
