import contextvars
import copy
import logging
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Mapping

import pytest

from prefectish.engine.context import bind, context, current, get_logger, raise_on_exception, unbind


class Late(Mapping):
    """Computes a value only when it is read."""

    def __init__(self):
        self.read = []

    def __getitem__(self, name):
        self.read.append(name)
        return {"map_index": 17}[name]

    def __iter__(self):
        return iter(["map_index"])

    def __len__(self):
        return 1


def test_context_is_empty_outside_a_run():
    assert context.to_dict() == {}
    assert repr(context) == "<context: empty>"


def test_context_reads_by_attribute_and_by_key():
    with context(x=1):
        assert context.x == context["x"] == context.get("x") == 1
        assert "x" in context
        assert context.to_dict() == {"x": 1}


def test_context_absent_names_are_errors():
    with pytest.raises(AttributeError, match=r"context has no 'x' here.*`with context\(x=\.\.\.\)`"):
        _ = context.x
    with pytest.raises(KeyError, match="x"):
        _ = context["x"]
    assert context.get("x") is None
    assert context.get("x", 7) == 7
    assert "x" not in context


def test_context_nests_and_restores():
    with context(x=1, y=1):
        with context({"x": 2}, z=3):
            assert context.to_dict() == {"x": 2, "y": 1, "z": 3}
        assert context.to_dict() == {"x": 1, "y": 1}
    assert context.to_dict() == {}


def test_context_restores_after_an_error():
    with pytest.raises(ZeroDivisionError), context(x=1):
        _ = 1 / 0
    assert "x" not in context


def test_context_keyword_beats_mapping():
    with context({"x": 1}, x=2):
        assert context.x == 2


def test_context_block_yields_the_context():
    with context(x=1) as inner:
        assert inner is context


def test_context_block_can_be_entered_again():
    block = context(x=1)
    with block:
        with context(x=2), block:
            assert context.x == 1
        assert context.x == 1
    assert "x" not in context


def test_context_config_merges_deeply():
    with (
        context(config={"log": {"level": "INFO", "to": "file"}, "home": "a"}),
        context(config={"log": {"level": "DEBUG"}, "home": {"of": "b"}}),
    ):
        assert context.config == {"log": {"level": "DEBUG", "to": "file"}, "home": {"of": "b"}}


def test_context_merging_leaves_the_outer_config_alone():
    outer = {"log": {"level": "INFO"}}
    with context(config=outer), context(config={"log": {"level": "DEBUG"}}):
        pass
    assert outer == {"log": {"level": "INFO"}}


def test_context_other_dicts_replace():
    with context(parameters={"a": 1}), context(parameters={"b": 2}):
        assert context.parameters == {"b": 2}


def test_context_is_read_only():
    with pytest.raises(AttributeError, match="read-only"):
        context.x = 1


@pytest.mark.parametrize("use", [pickle.dumps, copy.copy, copy.deepcopy])
def test_context_cannot_be_pickled(use):
    with pytest.raises(TypeError, match="context cannot be pickled"):
        use(context)


def test_context_does_not_leak_into_other_threads():
    seen = []
    with context(x=1):
        thread = threading.Thread(target=lambda: seen.append("x" in context))
        thread.start()
        thread.join()
    assert seen == [False]


def test_context_travels_with_contextvars():
    with context(x=1):
        carried = contextvars.copy_context()
    assert carried.run(lambda: context.x) == 1


def test_bind_reads_straight_from_the_mapping():
    late = Late()
    token = bind(late)
    try:
        assert late.read == []
        assert context.map_index == 17
        assert current() is late
        assert late.read == ["map_index"]
    finally:
        unbind(token)
    assert "map_index" not in context


def test_overlay_lies_over_a_bound_mapping():
    token = bind(Late())
    try:
        with context(x=1):
            assert context.to_dict() == {"map_index": 17, "x": 1}
    finally:
        unbind(token)


def test_context_logger_outside_a_run_is_the_root():
    assert context.logger is context["logger"] is context.get("logger") is logging.getLogger("prefectish")


def test_context_logger_of_a_run_wins():
    mine = logging.getLogger("mine")
    with context(logger=mine):
        assert context.logger is mine


def test_get_logger_names_are_below_the_root():
    assert get_logger().name == "prefectish"
    assert get_logger("load").name == "prefectish.load"


def test_raise_on_exception_sets_a_flag():
    with raise_on_exception():
        assert context.raise_on_exception is True
    assert not context.get("raise_on_exception")


@pytest.mark.parametrize(("level", "number"), [("error", 40), ("DEBUG", 10), ("", 0)])
def test_log_level_comes_from_the_environment(level, number):
    code = "import logging, prefectish; print(logging.getLogger('prefectish').level)"
    environment = os.environ | {"PREFECTISH_LOG_LEVEL": level}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(number), done.stderr


def test_unknown_log_level_is_ignored_with_a_warning():
    environment = os.environ | {"PREFECTISH_LOG_LEVEL": "loud"}
    done = subprocess.run([sys.executable, "-c", "import prefectish"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0
    assert "PREFECTISH_LOG_LEVEL is ignored: Unknown level: 'LOUD'" in done.stderr
