"""Rows whose caches are asked first: on pages, and then in batches, without an executor."""

from __future__ import annotations

import pytest
from jobs import advanced
from owner import Owner, labels, named

from prefectish import Flow
from prefectish.caching.lookups import Miss
from prefectish.engine.jobs.job import Receipt, Record
from prefectish.engine.jobs.protocol import LossCause, Lost
from prefectish.engine.scheduling.admission import PAGE
from prefectish.engine.state import Cached, Failed, Pending, Success
from prefectish.engine.worker.attempt_context import MISS
from prefectish.tasks import task_input_hash


def keyed(width, **options):
    with Flow("keyed") as flow:
        named("load", cache_key_fn=task_input_hash, **options).map(list(range(width)))
    return flow


def missed(job, key=None):
    """Return the receipt of a probe that found nothing."""
    key = str(job.items[0]) if key is None else key
    return Receipt(job, [(0, Record(Pending(context={MISS: Miss(None, key, {}, key)})))])


def by_batch(jobs):
    """Return the rows of each batch, in order; a job by itself is a batch of its own."""
    batches = {}
    for n, job in enumerate(jobs):
        batches.setdefault(("alone", n) if job.batch is None else job.batch, []).append(job.index)
    return list(batches.values())


def test_rows_are_probed_on_pages():
    owner = Owner(keyed(1000), window=1000, slots=2)
    jobs = owner.start()
    assert all(job.probe_only for job in jobs)
    assert by_batch(jobs)[:2] == [list(range(PAGE)), list(range(PAGE, 2 * PAGE))]


def test_a_short_map_is_spread_over_all_slots():
    owner = Owner(keyed(8), slots=2)
    assert by_batch(owner.start()) == [[0, 1], [2, 3], [4], [5], [6], [7]]


def test_what_was_not_found_runs_alone_without_a_batch_size():
    owner = Owner(keyed(8), slots=1)
    jobs = owner.start()
    ran = advanced(owner.progress, [missed(job) for job in jobs], owner.moment)
    assert by_batch(ran) == [[n] for n in range(8)]
    assert not any(job.probe_only for job in ran)


def test_what_was_not_found_runs_in_batches():
    owner = Owner(keyed(12, batch_size=4), slots=1)
    jobs = owner.start()
    assert by_batch(jobs) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    hits = [Receipt(job, [(0, Record(Cached(None, 1)))]) for job in jobs[:2]]
    ran = advanced(owner.progress, [*hits, *(missed(job) for job in jobs[2:])], owner.moment)
    assert by_batch(ran) == [[2, 3, 4, 5], [6, 7, 8, 9], [10, 11]]
    assert not any(job.probe_only for job in ran)


def test_a_batch_of_rows_that_were_probed_takes_one_slot_under_a_limit():
    owner = Owner(keyed(8, batch_size=4, max_concurrency=1), slots=1)
    jobs = owner.start()
    ran = advanced(owner.progress, map(missed, jobs), owner.moment)
    assert by_batch(ran) == [[0, 1, 2, 3]]
    done = [Receipt(job, [(0, Record(Success(None, 1)))]) for job in ran]
    assert by_batch(advanced(owner.progress, done, owner.moment)) == [[4, 5, 6, 7]]


def test_child_of_a_batch_that_did_not_begin_leads_still():
    owner = Owner(keyed(3, batch_size=3), slots=1)
    jobs = owner.start()
    ran = advanced(owner.progress, [missed(job, "same") for job in jobs], owner.moment)
    assert [labels(job) for job in ran] == [["load[0]"]]
    (again,) = advanced(owner.progress, [Receipt(ran[0], [(0, Record(ran[0].starts[0], begun=False))])], owner.moment)
    assert labels(again) == ["load[0]"]
    assert [labels(job) for job in owner.tell(again, Failed("no"))] == [["load[1]"]], "the next one leads"


def test_page_that_was_lost_is_not_run_in_batches():
    owner = Owner(keyed(4, batch_size=2), slots=1)
    first, second, *others = owner.start()
    lost = Lost(LossCause.KILLED_WORKER, 1)
    ran = advanced(owner.progress, [Receipt(first, (), lost), Receipt(second, (), lost)], owner.moment)
    assert by_batch(ran) == [[0], [1]]
    assert all(job.was_in_batch for job in ran)
    assert len(others) == 2


@pytest.mark.parametrize("batches", [True, False])
def test_pages_are_for_executors_with_batches(batches):
    owner = Owner(keyed(8), slots=1, batches=batches)
    assert len(by_batch(owner.start())) == (4 if batches else 8)
