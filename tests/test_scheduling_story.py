"""The story of a run: what happened to a child, moment by moment, on every executor."""

from __future__ import annotations

import os
import re

import pytest

from prefectish import Flow, Parameter, context, flatten, flow, task, unmapped
from prefectish.engine import task_states
from prefectish.engine.task_states import RunStory
from prefectish.errors import ParameterError
from prefectish.executors import LocalDaskExecutor, LocalExecutor
from prefectish.testing import FaultySession


@task
def load(x):
    return x + 1


@task(max_retries=1, retry_delay=0)
def clean(x):
    if x == 2 and context.task_run_count == 1:
        raise ValueError("odd")
    return x


def two_maps():
    with Flow("two maps") as made:
        clean.map(load.map([0, 1, 2]))
    return made


def whats(story):
    return re.findall(r"^ +\d+\.\d+ +(\w+)", str(story), re.MULTILINE)


def test_story_of_a_child_that_is_retried(run):
    state = run(two_maps(), story=True)
    story = state.story("clean[1]")
    assert str(story).startswith(f"clean[1] in run {state.context['flow_run_id']}")
    assert [what for what in whats(story) if what != "opened"] == [
        "submitted", "receipt", "retried", "submitted", "receipt", "finished", "finished",
    ]  # fmt: skip
    assert "Retrying Task (after attempt 1 of 2)" in story
    assert "all 3 rows are final" in story
    assert "retried" not in whats(state.story("clean[0]"))
    assert repr(story) == story


def test_story_of_a_flow_function(executor):
    @flow(executor=executor, history=False)
    def twice():
        return [future.result() for future in [load.submit(1), load.submit(2)]]

    state = twice.run(story=True)
    assert state.result == [2, 3]
    assert "finished" in whats(state.story("load-1[1]"))


def test_story_tells_of_a_lost_worker_and_of_the_suspect():
    state = two_maps().run(
        executor=FaultySession(LocalExecutor(), {("load", 1): ["killed-worker", None]}), history=False, story=True
    )
    told = whats(state.story("load[1]"))
    assert [what for what in told if what != "opened"][:6] == [
        "submitted", "lost", "suspect", "submitted", "receipt", "finished",
    ]  # fmt: skip
    assert "killed-worker" in state.story("load[1]")


@pytest.mark.fault
def test_story_tells_of_a_process_that_died(tmp_path):
    @task(crash_retries=1)
    def dies_once(x, marker):
        if x == 1 and not marker.exists():
            marker.touch()
            os._exit(3)
        return x

    with Flow("dies") as made:
        dies_once.map([0, 1], marker=unmapped(tmp_path / "died"))
    state = made.run(executor=LocalDaskExecutor(scheduler="processes", num_workers=2), history=False, story=True)
    assert state.is_successful()
    assert "lost" in whats(state.story("dies_once[1]"))


def test_handle_tells_while_the_run_is_active(tmp_path):
    handle = two_maps().start(executor=LocalExecutor(), history=False, story=True)
    handle.wait(20)
    assert "finished" in whats(handle.story("load-1[2]"))
    assert handle.story("load") == handle.state.story("load-1")


def test_children_of_a_flattened_map_are_named_by_their_place():
    @task
    def pair(x):
        return [x, 10 + x]

    with Flow("flattened") as made:
        load.map(flatten(pair.map([0, 1])))
    state = made.run(executor=LocalExecutor(), history=False, story=True)
    assert "finished" in whats(state.story("load[3]"))
    assert "nothing has happened" not in state.story("load[3]")


def test_run_without_a_story_says_how_to_keep_one(monkeypatch):
    monkeypatch.delenv("PREFECTISH_VALIDATE")
    state = two_maps().run(executor=LocalExecutor(), history=False)
    with pytest.raises(RuntimeError, match=r"story=True, or with PREFECTISH_VALIDATE=1"):
        state.story("load[0]")


def test_stories_are_kept_under_validate():
    assert "finished" in whats(two_maps().run(executor=LocalExecutor(), history=False).story("load[0]"))


@pytest.mark.parametrize("key", ["nothing", "load[x]", "load["])
def test_key_that_names_no_task_is_refused(key):
    state = two_maps().run(executor=LocalExecutor(), history=False, story=True)
    with pytest.raises(KeyError, match=r"no task is called|must be a task"):
        state.story(key)


def test_name_of_several_tasks_asks_for_a_slug():
    with Flow("several") as made:
        load(load(1))
    state = made.run(executor=LocalExecutor(), history=False, story=True)
    with pytest.raises(KeyError, match="several tasks are called 'load'; name one of load-1, load-2"):
        state.story("load")


def test_log_is_bounded_and_says_what_it_dropped(monkeypatch):
    monkeypatch.setattr(task_states, "MAX_ENTRIES", 3)
    story = RunStory("id", lambda: [("load-1", "load", "load")])
    for row in range(5):
        story.note(float(row), "submitted", "load-1", row, "job 0")
    assert "(the first 2 entries of the run were dropped)" in story.of("load")
    assert whats(story.of("load[4]")) == ["submitted"]
    assert "nothing has happened to it" in story.of("load[0]")


def test_process_keeps_the_last_stories_only(monkeypatch):
    monkeypatch.setattr(task_states, "_stories", {})
    for number in range(task_states.MAX_STORIES + 1):
        task_states.keep_story(RunStory(str(number), lambda: [("load-1", "load", "load")]))
    with pytest.raises(RuntimeError, match="run 0 has no story here"):
        task_states.story_of("0", "load")
    assert "nothing" in task_states.story_of("1", "load")


def test_parameter_called_story_is_given_by_name_in_parameters():
    with Flow("novel") as made:
        out = load(Parameter("story"))
    assert made.run(parameters={"story": 1}, executor=LocalExecutor(), history=False).result[out].result == 2
    for call in (made.run, made.start):
        with pytest.raises(ParameterError, match=r"parameters=\{'story': \.\.\.\}"):
            call(story=True)

    @flow(executor=LocalExecutor(), history=False)
    def novel(story):
        return story

    assert novel(story=3) == 3
    assert novel.run(parameters={"story": 3}).result == 3
    with pytest.raises(ParameterError, match=r"parameters=\{'story': \.\.\.\}"):
        novel.run(story=True)


def test_story_must_be_a_flag():
    with pytest.raises(TypeError, match=r"story must be True or False, got 5.*parameters=\{'story'"):
        two_maps().run(story=5)
