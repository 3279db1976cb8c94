"""Failed children run again while their map is open, without a clock or an executor."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from owner import Owner, chain_of, labels, limited_chain, named, names

from prefectish import Flow, flatten, triggers
from prefectish.engine.jobs.job import Receipt, Record
from prefectish.engine.scheduling.retry_failed import SUBMISSIONS, CannotRetry, chooser
from prefectish.engine.state import Failed, Success, TriggerFailed
from prefectish.engine.worker.run_steps import gather


class Group:
    """Failures of one cause, as the history has them."""

    def __init__(self, *rows):
        self.children = [Child(row) for row in rows]


class Child:
    def __init__(self, index):
        self.index = index


BROKEN = Failed("broken", ValueError("broken"))


def all_failed(owner, slug, where=None):
    return owner.progress.retrier.retry(slug, chooser(where), owner.moment)


# -- failures that run again -------------------------------------------------------------------------------------------


def failed(job):
    states = [BROKEN] + [TriggerFailed("trigger")] * (len(job.positions) - 1)
    return states


@pytest.mark.parametrize("flow", [chain_of(), limited_chain()])
def test_failed_child_runs_again_with_what_followed_it(flow):
    owner = Owner(flow)
    first, second, third = owner.start()
    jobs = owner.tell(first, *failed(first))
    for job in jobs:  # where the maps travel alone
        jobs = owner.tell(job, TriggerFailed("trigger"))
    assert all_failed(owner, "load-1") == 1
    (again,) = owner.advance()
    assert labels(again)[0] == "load[0]"
    assert again.submission > first.submission
    assert again.starts[0].run_count == 1
    owner.run_all([second, third, again])
    states = owner.progress.states()
    assert all(child.is_successful() for state in states[1:3] for child in state.map_states)
    assert states[3].is_successful()
    assert owner.progress.done
    assert ("load", "Failed", "Retrying") in owner.changes


def test_keys_are_never_used_twice():
    owner = Owner(limited_chain(2))
    used = set()

    def note(jobs):
        for job in jobs:
            key = (job.chain.ident, job.index, job.submission)
            assert key not in used
            used.add(key)
        return jobs

    note(owner.start())
    first = next(
        job for chain in owner.progress.run_state.chains.values() for b in chain.open_rows.values() for job in b.jobs
    )
    jobs = note(owner.tell(first, BROKEN))
    for _ in range(3):
        (clean,) = jobs
        note(owner.tell(clean, TriggerFailed("trigger")))
        assert all_failed(owner, "load-1") == 1
        (again,) = note(owner.advance())
        jobs = note(owner.tell(again, BROKEN))


def test_follower_that_has_not_begun_or_still_runs_is_taken_back():
    owner = Owner(limited_chain(2, trigger=triggers.all_finished))
    first, second = owner.start()
    (running,) = owner.tell(first, BROKEN)
    assert all_failed(owner, "load-1") == 1
    (again,) = owner.advance()
    assert running in owner.progress.run_state.cancelled
    assert owner.tell(running) == []  # it comes too late
    (clean,) = owner.tell(again)
    assert labels(clean) == ["clean[0]"]
    owner.run_all([second, clean])
    assert owner.progress.done
    assert owner.progress.states()[3].is_successful()


def test_waiting_step_is_submitted_once_when_it_is_ready():
    owner = Owner(limited_chain(2), window=2)
    first, second = owner.start()
    owner.progress.controls.pause()
    owner.tell(first, BROKEN)
    assert all_failed(owner, "load-1") == 1
    owner.progress.controls.resume()
    (again,) = owner.advance()
    ran = owner.run_all([second, again])
    assert sorted(label for part in ran for label in part) == ["clean[0]", "clean[1]", "load[0]", "load[1]", "total"]


def test_failures_that_run_again_and_fail_again_are_counted_once():
    owner = Owner(chain_of())
    first, second, third = owner.start()
    owner.tell(first, *failed(first))
    all_failed(owner, "load-1")
    (again,) = owner.advance()
    owner.tell(again, *failed(again))
    run = owner.progress.run_state.step_states[1]
    assert (run.failures, run.left, run.kinds[Failed]) == (1, 2, 1)
    owner.run_all([second, third])
    assert owner.progress.done
    assert owner.progress.states()[1].map_states[0].is_failed()


def test_attempts_of_the_history_continue():
    owner = Owner(chain_of(), record=True)
    first, *_ = owner.start()
    owner.tell(first, *failed(first))
    all_failed(owner, "load-1")
    (again,) = owner.advance()
    owner.tell(again, *failed(again))
    told = [(e.attempt, type(e.state).__name__) for e in owner.progress.run_state.events if (e.step, e.row) == (1, 0)]
    assert told == [(1, "Failed"), (1, "Retrying"), (2, "Failed")]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (None, [0, 1, 2]),
        (KeyError, [1]),
        ((KeyError, OSError), [1, 2]),
        (LookupError, [1]),
        ("ValueError", [0]),
        (lambda state: "gone" in str(state.result), [2]),
        (Group(2), [2]),
    ],
)
def test_group_of_failures_is_chosen(where, rows):
    owner = Owner(chain_of(5))
    jobs = owner.start()
    for job, error in zip(jobs, (ValueError("no"), KeyError("no"), OSError("gone")), strict=False):
        owner.tell(job, Failed("failed", error), TriggerFailed("trigger"))
    assert all_failed(owner, "load-1", where) == len(rows)
    assert [job.index for job in owner.advance()] == rows


def test_children_that_failed_by_others_are_left_alone():
    owner = Owner(chain_of())
    first, *_ = owner.start()
    owner.tell(first, *failed(first))
    assert all_failed(owner, "clean-1") == 0
    assert all_failed(owner, "load-1", KeyError) == 0


def test_verdict_of_a_trigger_can_be_asked_for_again():
    owner = Owner(limited_chain())
    first, *_ = owner.start()
    (second,) = owner.tell(first, BROKEN)
    owner.tell(second, TriggerFailed("first failed"))
    assert all_failed(owner, "clean-1", lambda state: isinstance(state, TriggerFailed)) == 1
    assert names(owner.advance()) == ["clean[0]"]


def test_choice_that_is_none_is_refused():
    with pytest.raises(TypeError, match="got 3"):
        chooser(3)


def test_map_that_has_ended_cannot_run_again():
    owner = Owner(chain_of(1))
    (job,) = owner.start()
    owner.tell(job, *failed(job))
    with pytest.raises(CannotRetry, match="load has ended"):
        all_failed(owner, "load-1")


def test_map_that_was_stopped_cannot_run_again():
    with Flow("steered") as flow:
        named("load", on_child_failure="stop").map([1, 2, 3])
    owner = Owner(flow, window=2)
    first, _ = owner.start()
    owner.tell(first, BROKEN)
    with pytest.raises(CannotRetry, match="load was stopped"):
        all_failed(owner, "load-1")


def test_map_whose_elements_were_taken_cannot_run_again():
    with Flow("steered") as flow:
        named("use").map(flatten(named("load").map([1, 2])))
    owner = Owner(flow)
    first, _ = owner.start()
    owner.tell(first, BROKEN)
    with pytest.raises(CannotRetry, match="use has taken the elements of load already"):
        all_failed(owner, "load-1")


def diamond(limits):
    """Return maps that read one another child by child, together or through gates, and a task that reads them all."""
    options = [{"max_concurrency": 100} if limit else {} for limit in limits]
    with Flow("steered") as flow:
        a = named("a", **options[0]).map(list(range(4)))
        b = named("b", **options[1]).map(a)
        c = named("c", **options[2], trigger=triggers.all_finished).map(a)
        d = named("d", **options[3]).map(b, c)
        named("total", trigger=triggers.all_finished)(d)
    return flow


class Chance:
    """Sessions by chance: any open job ends next, any body fails, and failures run again at any time."""

    def __init__(self, owner, random):
        self.owner = owner
        self.random = random
        self.flying = []
        self.used = set()
        self.retried = 0

    def note(self, jobs):
        for job in jobs:
            key = (job.chain.ident, job.index, job.submission)
            assert key not in self.used
            self.used.add(key)
        self.flying.extend(jobs)

    def end_one(self):
        """Report what the bodies of a job came to: what reads a failure fails by its trigger."""
        job = self.flying.pop(self.random.randrange(len(self.flying)))
        states = dict(job.given)
        for position in job.positions:
            spec = job.chain.steps[position]
            upstream = gather(job.chain, position, job.items, states)
            if spec.plain and not all(state.is_successful() for state in upstream):
                states[position] = TriggerFailed("trigger")
            else:
                states[position] = BROKEN if self.random.random() < 0.3 else Success(None, 1)
        self.note(self.owner.advance(Receipt(job, [(p, Record(states[p])) for p in job.positions])))

    def retry_some(self):
        with suppress(CannotRetry):
            self.retried += all_failed(self.owner, self.random.choice(["a-1", "b-1", "c-1", "d-1"]))
        gone = {id(job) for job in self.owner.progress.run_state.cancelled}
        self.flying = [job for job in self.flying if id(job) not in gone]
        self.note(self.owner.advance())

    def run(self):
        self.note(self.owner.start())
        while not self.owner.progress.done:
            self.end_one()
            if self.random.random() < 0.4 and self.retried < 20:
                self.retry_some()


@given(st.tuples(*[st.booleans()] * 4), st.integers(1, 6), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_whatever_is_taken_back_and_when_every_child_ends_as_its_inputs_say(limits, window, random):
    owner = Owner(diamond(limits), window=window)
    Chance(owner, random).run()
    run_state = owner.progress.run_state
    states = {step.name: state for step, state in zip(owner.plan.steps, owner.progress.states(), strict=True)}
    for row in range(4):
        a, b, c, d = (states[name].map_states[row] for name in "abcd")
        assert isinstance(b, TriggerFailed) != a.is_successful()
        assert not isinstance(c, TriggerFailed)
        assert isinstance(d, TriggerFailed) != (b.is_successful() and c.is_successful())
    assert states["total"].is_finished()
    assert (run_state.submitted_jobs, owner.progress.admission.open) == (0, 0)
    for run in run_state.step_states:
        if run.step.mapped:
            assert run.failures == sum(state.is_failed() for state in run.state.map_states)
            assert sum(run.kinds.values()) == sum(type(state) is not Success for state in run.state.map_states)


def test_chance_takes_failures_back_in_all_ways():
    """So that the test above is known to test something."""
    taken, again = 0, 0
    for seed in range(40):
        owner = Owner(diamond((seed & 1, seed & 2, seed & 4, seed & 8)), window=3)
        chance = Chance(owner, Random(seed))
        chance.run()
        taken += chance.retried
        again += sum(1 for *_, submission in chance.used if submission >= SUBMISSIONS)
    assert taken > 20
    assert again > 20
