"""Hashes of arguments before and after a body."""

from __future__ import annotations

import threading

from prefectish.engine.worker.input_check import changed, hashes


def test_arguments_that_differ_are_named():
    inputs = {"rows": [1], "name": "a", "lock": threading.Lock(), "table": {"x": {1, 2}}}
    before = inputs, hashes(inputs)
    assert changed(before) == []
    inputs["rows"].append(2)
    inputs["table"]["x"].add(3)
    assert changed(before) == ["rows", "table"]


def test_argument_without_a_hash_is_not_compared():
    assert hashes({"lock": threading.Lock()}) == {}
