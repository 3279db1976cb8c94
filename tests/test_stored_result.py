"""A result in a store: read once, small ones not at all, and one that is gone says whose it was."""

from __future__ import annotations

import pickle

import pytest

from prefectish.engine.worker.stored_result import Stored
from prefectish.errors import ResultReleased
from prefectish.results import LocalResult


def test_value_is_read_once(tmp_path):
    store = LocalResult(tmp_path)
    store.save("a", [1, 2])
    result = Stored(store, "a", "load[0]")
    assert result.get() == [1, 2]
    store.delete("a")
    assert result.get() is result.get()


def test_result_that_is_gone_names_its_child(tmp_path):
    with pytest.raises(ResultReleased, match=r"result of load\[0\] is gone: there is no 'a'"):
        Stored(LocalResult(tmp_path), "a", "load[0]").get()


def test_small_value_travels_and_a_live_one_does_not(tmp_path):
    store = LocalResult(tmp_path)
    assert pickle.loads(pickle.dumps(Stored(store, "a", "load[0]", 3))).get() == 3
    with pytest.raises(ResultReleased):
        pickle.loads(pickle.dumps(Stored(store, "a", "load[0]", live=3))).get()
