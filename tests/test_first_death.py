"""The plugin of the scheduler by which a batch is given up at the first death of its worker; without a scheduler."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from distributed.scheduler import Scheduler

from prefectish.executors.first_death import ANNOTATION, FirstDeath

ALLOWED = 3


@pytest.fixture
def scheduler():
    tasks = {key: SimpleNamespace(suspicious=0) for key in ("batch", "other")}
    return SimpleNamespace(tasks=tasks, allowed_failures=ALLOWED)


def counted(scheduler, **annotations):
    FirstDeath().update_graph(scheduler, annotations=annotations, client="c", keys=[], tasks=[], priority={})
    return {key: task.suspicious for key, task in scheduler.tasks.items()}


def test_annotated_key_begins_with_all_deaths_that_are_allowed(scheduler):
    """Dask gives a key up when it has more of them than are allowed."""
    assert counted(scheduler, **{ANNOTATION: {"batch": True}}) == {"batch": ALLOWED, "other": 0}


def test_graph_without_the_annotation_is_left_alone(scheduler):
    assert counted(scheduler, priority={"batch": 1}) == {"batch": 0, "other": 0}


def test_count_is_never_lowered(scheduler):
    scheduler.tasks["batch"].suspicious = ALLOWED + 1
    assert counted(scheduler, **{ANNOTATION: {"batch": True}})["batch"] == ALLOWED + 1


def test_key_that_the_scheduler_does_not_have_is_passed_over(scheduler):
    assert counted(scheduler, **{ANNOTATION: {"gone": True}}) == {"batch": 0, "other": 0}


def test_key_that_had_a_value_begins_with_no_deaths(scheduler):
    plugin = FirstDeath()
    plugin.update_graph(scheduler, annotations={ANNOTATION: {"batch": True}})
    plugin.transition("batch", "waiting", "processing")
    assert scheduler.tasks["batch"].suspicious == ALLOWED
    plugin.transition("batch", "processing", "memory")
    assert scheduler.tasks["batch"].suspicious == 0
    scheduler.tasks["batch"].suspicious = 2  # Dask's own count, since
    plugin.transition("batch", "processing", "memory")
    assert scheduler.tasks["batch"].suspicious == 2


@pytest.mark.parametrize("end", ["erred", "forgotten"])
def test_key_that_ends_without_a_value_keeps_its_deaths(scheduler, end):
    plugin = FirstDeath()
    plugin.update_graph(scheduler, annotations={ANNOTATION: {"batch": True}})
    plugin.transition("batch", "processing", end)
    plugin.transition("batch", "processing", "memory")
    assert scheduler.tasks["batch"].suspicious == ALLOWED


def test_plugin_is_registered_once_for_all_runs():
    assert FirstDeath.idempotent
    assert FirstDeath.name == ANNOTATION
    assert hasattr(Scheduler, "add_plugin")
