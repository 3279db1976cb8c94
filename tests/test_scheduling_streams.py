"""What becomes of items that generators yield, by values."""

from __future__ import annotations

from owner import Owner, labels, named, names

from prefectish import Flow
from prefectish.engine.state import Crashed, Failed, Success
from prefectish.engine.worker.yielding import Yielded


def reading():
    with Flow("reads") as flow:
        named("use").map(named("read")())
    owner = Owner(flow)
    (job,) = owner.start()
    number = job.chain.steps[0].number

    def give(first, *items):
        owner.progress.streams.take(Yielded(number, 0, first, items))
        return owner.advance()

    return owner, job, give


def test_rows_come_up_with_the_items_and_the_rest_with_the_result():
    owner, read, give = reading()
    assert names(give(0, "a", "b")) == ["use[0]", "use[1]"]
    assert names(give(2, "c")) == ["use[2]"]
    jobs = owner.tell(read, Success(None, ["a", "b", "c", "d"]), widths=[(4, "list")])
    assert names(jobs) == ["use[3]"]
    (pick,) = jobs[0].items
    assert pick.read() == "d"


def test_items_that_are_known_are_passed_over_and_so_are_those_after_a_gap():
    owner, _, give = reading()
    give(0, "a", "b")
    assert give(0, "a", "b") == []
    assert names(give(1, "b", "c")) == ["use[2]"]
    assert give(7, "late") == []
    assert owner.progress.run_state.find("use-1").map_state.width == 3


def test_failure_leaves_a_row_that_shows_it():
    owner, read, give = reading()
    give(0, "a")
    jobs = owner.tell(read, Failed("broken", ValueError("broken")))
    assert names(jobs) == ["use[1]"]
    (state,) = jobs[0].items
    assert state.message == "broken"


def test_items_of_what_has_ended_are_dropped():
    owner, read, give = reading()
    owner.tell(read, Success(None, ["a"]), widths=[(1, "list")])
    assert give(0, "a", "b") == []
    assert not owner.progress.run_state.streams


def test_what_feeds_takes_no_place_of_the_window():
    with Flow("reads") as flow:
        lines = named("read").map([1])
        named("use").map(lines)
    owner = Owner(flow, window=1)
    (job,) = owner.start()
    assert owner.progress.admission.open == 1
    owner.progress.streams.take(Yielded(job.chain.steps[0].number, 0, 0, ("a",)))
    assert owner.progress.admission.open == 0
    assert labels(job) == ["read[0]", "use[0]"]


def test_who_waits_for_a_first_item_hears_of_it_once():
    owner, _, give = reading()
    number = owner.progress.run_state.find("read-1").step.number
    heard = []
    forget = owner.progress.streams.once_begun((number, 0), lambda: heard.append("forgotten"))
    forget()
    owner.progress.streams.once_begun((number, 0), lambda: heard.append("first"))
    give(0, "a")
    owner.progress.streams.once_begun((number, 0), lambda: heard.append("at once"))
    assert heard == ["first", "at once"]


def test_generator_that_runs_again_alone_feeds_its_map_once_it_yields_what_it_never_has():
    owner, read, give = reading()
    (use,) = give(0, "a")
    assert owner.tell(use) == []
    (alone,) = owner.lose(read)
    assert alone.solo
    assert give(0, "a") == [], "known"
    assert names(give(0, "a", "b")) == ["use[1]"]
    assert not owner.progress.suspects.busy


def test_generator_that_got_further_dies_for_the_first_time_again():
    owner, read, give = reading()
    (alone,) = owner.lose(read)
    (use,) = give(0, "a")
    assert owner.lose(alone) == [], "the child of its item is still under way"
    (alone,) = owner.tell(use)
    assert alone.solo
    owner.tell(*owner.lose(alone))
    assert type(owner.state("read")) is Crashed
    assert owner.progress.done
