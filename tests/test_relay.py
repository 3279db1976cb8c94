"""The log of bodies at the client: what is captured while a run is active, and what is replayed."""

from __future__ import annotations

import logging

import pytest

from prefectish.engine.jobs.log_lines import LogLine
from prefectish.engine.worker.logs.capture import handler, level_of
from prefectish.engine.worker.logs.relay import AttemptLog, listening, log_settings, replay_log_records
from prefectish.process_tree import process_id


def log_of(*lines, map_index=3, run_name=None):
    return AttemptLog(0, "load-1", "load", "load", 3, map_index, 1, "host:7", run_name, lines)


def test_line_from_another_process_is_replayed_with_its_child(caplog):
    line = LogLine(1_700_000_000.25, logging.WARNING, None, "hello", "  Traceback ...")
    replay_log_records(log_of(line, run_name="eu"), "run-1")
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("prefectish.load[3]", "WARNING", "hello")
    assert (record.created, record.exc_text, record.processName) == (1_700_000_000.25, "  Traceback ...", "host:7")
    found = (record.flow_run_id, record.task_name, record.task_slug, record.map_index, record.task_run_name)
    assert found == ("run-1", "load", "load-1", 3, "eu")


def test_line_keeps_the_name_of_its_own_logger(caplog):
    replay_log_records(log_of(LogLine(0.0, logging.ERROR, "prefectish.mine", "x"), map_index=None), "run-1")
    assert caplog.records[0].name == "prefectish.mine"


def test_levels_of_the_client_apply(caplog):
    caplog.set_level(logging.ERROR, "prefectish.load")
    replay_log_records(log_of(LogLine(0.0, logging.WARNING, None, "quiet")), "run-1")
    assert caplog.records == []


def test_handler_is_installed_while_a_run_is_active():
    top = logging.getLogger("prefectish")
    with listening("one", None) as settings, listening("two", None):
        assert handler in top.handlers
        assert settings(True).kept
        assert not settings(False).kept
    assert handler not in top.handlers


def test_settings_have_the_levels_of_our_loggers(caplog):
    caplog.set_level(logging.ERROR, "prefectish")
    caplog.set_level(logging.DEBUG, "prefectish.load")
    caplog.set_level(logging.INFO, "others")
    settings = log_settings(kept=True, extra=("others",))
    assert settings.owner == process_id()
    assert (settings.levels["prefectish"], settings.levels["prefectish.load"]) == (logging.ERROR, logging.DEBUG)
    assert settings.levels["others"] == logging.INFO


@pytest.mark.parametrize(
    ("name", "level"), [("prefectish.load[3]", 10), ("prefectish.loads", 20), ("prefectish", 20), ("other", 0)]
)
def test_level_is_that_of_the_nearest_logger(name, level):
    assert level_of(name, {"prefectish": 20, "prefectish.load": 10}) == level
