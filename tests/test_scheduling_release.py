"""When a large result is released, by values; where results are on a cluster is in test_releases.py."""

from __future__ import annotations

from owner import Owner, labels, named

from prefectish import Flow, triggers
from prefectish.engine.jobs.references import Held
from prefectish.engine.state import Success


def held(label):
    return Success(None, Held(label, 1 << 20, object(), lambda handle: handle))


def is_here(owner, slug, row=0):
    return owner.progress.run_state.find(slug).children[row]._raw_result.handle is not None


def maps(**options):
    with Flow("large") as flow:
        named("second", max_concurrency=9).map(named("first", max_concurrency=9).map([0, 1]))
    return Owner(flow, **options)


def test_result_of_a_child_goes_when_the_child_that_reads_it_ended():
    owner = maps()
    first, other = owner.start()
    (second,) = owner.tell(first, held("first[0]"))
    assert is_here(owner, "first-1")
    owner.tell(second)
    assert not is_here(owner, "first-1")
    owner.tell(other, held("first[1]"))
    assert is_here(owner, "first-1", 1), "its own reader has not ended"


def test_result_that_is_kept_stays():
    owner = maps(keep=[step.number for step in maps().plan.steps if step.name == "first"])
    first, _ = owner.start()
    (second,) = owner.tell(first, held("first[0]"))
    owner.tell(second)
    assert is_here(owner, "first-1")


def test_result_without_a_reader_goes_at_once():
    with Flow("large") as flow:
        named("only").map([0])
    owner = Owner(flow)
    (job,) = owner.start()
    owner.tell(job, held("only[0]"))
    assert not is_here(owner, "only-1")


def test_results_read_as_a_whole_stay_until_the_reader_ended():
    with Flow("large") as flow:
        named("total", trigger=triggers.all_finished)(named("first").map([0, 1]))
    owner = Owner(flow)
    first, other = owner.start()
    owner.tell(first, held("first[0]"))
    (total,) = owner.tell(other, held("first[1]"))
    assert is_here(owner, "first-1", 0)
    assert labels(total) == ["total"]
    owner.tell(total)
    assert not is_here(owner, "first-1", 0)
    assert not is_here(owner, "first-1", 1)


def test_result_that_is_forgotten_goes_as_soon_as_it_can():
    owner = maps(keep=[step.number for step in maps().plan.steps if step.name == "first"])
    first, _ = owner.start()
    (second,) = owner.tell(first, held("first[0]"))
    owner.tell(second)
    owner.progress.changes.result_release.forget(owner.progress.run_state.find("first-1"))
    assert not is_here(owner, "first-1")
