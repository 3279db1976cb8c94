"""What a resumed run keeps, and how items of one key are told apart, without a history."""

from __future__ import annotations

from collections import Counter

from owner import Owner, labels, named

from prefectish import Flow
from prefectish.engine.scheduling.previous_run import PreviousResult, PreviousRun, PreviousWait
from prefectish.engine.state import Retrying, Success


def result(value, made=0, readable=True):
    return PreviousResult(Success(None, value), lambda: readable, 0, made, 1, 0.5, "host:1")


def two_singles(children, **options):
    with Flow("resumed") as flow:
        named("second")(named("first", max_concurrency=5)())
    return Owner(flow, previous_run=PreviousRun(children, {}, {}, **options), record=True)


def known(**slugs):
    return {slug.replace("_", "-"): {(None, 0): found} for slug, found in slugs.items()}


def run_of(owner):
    return [label for job in owner.start() for label in labels(job)]


def test_what_was_finished_is_kept_and_the_rest_runs():
    owner = two_singles(known(first_1=result(1)))
    assert run_of(owner) == ["second"]
    assert owner.state("first").result == 1
    assert not owner.progress.run_state.find("first-1").rerun
    assert owner.progress.run_state.find("second-1").rerun


def test_what_reads_something_that_reruns_reruns_too():
    owner = two_singles(known(second_1=result(2)))
    assert run_of(owner) == ["first"]
    assert owner.progress.resume_rules.reran(owner.progress.run_state.find("first-1").step.number, None)


def test_what_was_made_before_its_input_reruns():
    owner = two_singles(known(first_1=result(1, made=1), second_1=result(2, made=0)))
    assert run_of(owner) == ["second"]


def test_result_that_is_gone_and_needed_is_made_anew_alone(caplog):
    owner = two_singles(known(first_1=result(1, readable=False)))
    assert run_of(owner) == ["first"]
    assert "the result of first was not stored" in caplog.text


def test_kept_attempts_are_recorded_as_they_were():
    owner = two_singles(known(first_1=result(1)))
    owner.start()
    (event,) = owner.progress.run_state.events
    assert (event.attempt, event.seconds, event.worker, event.generation) == (1, 0.5, "host:1", 0)


def test_child_that_waited_continues_with_its_count():
    with Flow("waits") as flow:
        named("first")()
    wait = PreviousWait(Retrying("later", run_count=2, start_time=None), 0)
    owner = Owner(flow, previous_run=PreviousRun({}, {"first-1": {0: [wait]}}, {}))
    owner.start()
    assert owner.progress.run_state.find("first-1").snapshot().run_count == 2


def test_step_that_is_read_along_many_ways_is_looked_at_once(monkeypatch):
    with Flow("lattice") as flow:
        value = named("first")()
        for n in range(12):
            value = named(f"next {n}")(value, value)
        named("last", max_concurrency=5)(value)
    children = {slug: {(None, 0): result(1)} for slug in flow.slugs.values()}
    looked = []
    find = PreviousRun.find
    monkeypatch.setattr(PreviousRun, "find", lambda self, slug, item: (looked.append(slug), find(self, slug, item))[1])
    assert run_of(Owner(flow, previous_run=PreviousRun(children, {}, {}))) == []
    assert max(Counter(looked).values()) < 5
