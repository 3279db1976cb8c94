"""Rows that begin and end in bundles: all of what they say is as if each had begun and ended by itself."""

from __future__ import annotations

from array import array

from owner import Owner, named

from prefectish import Flow, reduce
from prefectish.engine.jobs.bundle import Bundle, BundleReceipt, BundleRecords, gathered, unpack
from prefectish.engine.jobs.job import Receipt, Record
from prefectish.engine.jobs.protocol import LossCause, Lost
from prefectish.engine.scheduling.run_state import MapRow
from prefectish.engine.state import Cancelled, Crashed, Failed, Retrying, Success
from prefectish.engine.state_column import SUCCEEDED


def batched(items=range(6), **options):
    with Flow("batched") as flow:
        named("load", batch_size=3, **options).map(items)
    return flow


def chain():
    with Flow("chain") as flow:
        named("clean", batch_size=3).map(named("load", batch_size=3).map(range(6)))
    return flow


def owner_of(flow, **options):
    return Owner(flow, bundles=True, slots=2, **options)


def receipt(bundle, results=None, others=None, seconds=0.1, keys=None):
    """Return the receipt of a bundle whose steps all return the same."""
    steps, results = len(bundle.chain.steps), results or [f"r{row}" for row in bundle.rows]
    columns = [array("d", [seconds] * len(bundle))] * steps
    return BundleReceipt(bundle, BundleRecords("host:1", [results] * steps, columns, [keys] * steps, others or {}))


def failed(text="no"):
    return [(0, Record(Failed(text), 0.2))]


def test_rows_begin_in_bundles_and_end_at_once():
    owner = owner_of(batched())
    first, second = owner.start()
    assert [type(first), [*first.rows], [*second.columns[0]]] == [Bundle, [0, 1, 2], [3, 4, 5]]
    step_state = owner.progress.run_state.find("load-1")
    assert [step_state.chain.open_rows.single, len(step_state.chain.open_rows)] == [{}, 6]
    owner.advance(receipt(second))
    assert [type(state) for state in step_state.children] == [type(None)] * 3 + [Success] * 3
    assert (owner.progress.admission.open, step_state.chain.done, step_state.left) == (3, 3, 3)
    owner.advance(receipt(first))
    assert owner.progress.done
    assert [state.result for state in owner.state("load").map_states] == [f"r{row}" for row in range(6)]
    assert {state.message for state in owner.state("load").map_states} == {SUCCEEDED}


def test_steps_that_travel_together_end_at_once_too():
    owner = owner_of(chain())
    for bundle in owner.start():
        owner.advance(receipt(bundle))
    assert owner.progress.done
    assert [state.result for state in owner.state("clean").map_states] == [f"r{row}" for row in range(6)]


def test_combine_of_rows_that_ended_together_begins_once():
    with Flow("reduced") as flow:
        reduce(named("sum"), named("load", batch_size=3).map(range(6)), fan_in=2)
    owner = owner_of(flow)
    first, second = owner.start()
    [pair] = owner.advance(receipt(first))
    rest = owner.advance(receipt(second))
    assert [job.index for job in (pair, *rest)] == [0, 1, 3], "row 2 combines two of them"


def test_what_did_not_plainly_succeed_goes_its_own_way():
    owner = owner_of(batched(retries=1))
    first, second = owner.start()
    again = Retrying("again", start_time=owner.moment.wall, run_count=1)
    others = {0: failed(), 2: [(0, Record(again, due_in_seconds=1.0))]}
    assert owner.advance(receipt(first, others=others), receipt(second)) == []
    assert [type(s).__name__ for s in owner.state("load").map_states] == ["Failed", "Success", "Retrying"] + [
        "Success"
    ] * 3
    (retried,) = owner.pass_time(1.0)
    assert (retried.index, retried.batch) == (2, None)
    owner.tell(retried)
    assert owner.progress.done


def test_what_did_not_begin_is_submitted_again():
    owner = owner_of(batched())
    first, second = owner.start()
    (again,) = owner.advance(receipt(first, others={1: None}), receipt(second))
    assert (again.index, again.items, again.submission) == (1, (1,), 1)


def test_lost_bundle_makes_single_rows_of_which_each_is_looked_at():
    owner = owner_of(batched())
    first, second = owner.start()
    lost = Lost(LossCause.KILLED_WORKER, 1)
    again = owner.advance(*(Receipt(job, (), lost) for job in first.jobs))
    assert [(job.index, job.was_in_batch) for job in again] == [(0, True), (1, True), (2, True)]
    assert second.number in owner.progress.run_state.find("load-1").chain.open_rows.bundles, "others stay bundles"


def test_child_of_a_bundle_is_cancelled_alone():
    owner = owner_of(batched())
    first, second = owner.start()
    owner.progress.cancellation.cancel("load-1", 1, owner.moment)
    assert [job.index for job in owner.progress.run_state.cancelled] == [1]
    owner.advance(receipt(first), receipt(second))
    assert [type(s) for s in owner.state("load").map_states] == [Success, Cancelled] + [Success] * 4
    assert owner.progress.done


def test_run_that_is_ended_knows_what_was_not_sent():
    owner = owner_of(batched())
    owner.start()
    owner.progress.cancellation.end(lambda step_state, row: Crashed("ended"), Cancelled("never"), owner.moment)
    assert {type(s) for s in owner.state("load").map_states} == {Crashed}


def test_failure_that_stops_its_map_recalls_other_bundles():
    owner = owner_of(batched(on_child_failure="stop"))
    first, second = owner.start()
    owner.progress.advance([receipt(first, others={0: failed()})], owner.moment)
    assert owner.progress.run_state.recalled == second.jobs


def test_items_of_an_iterator_come_in_bundles():
    owner = owner_of(batched(iter(range(8))))
    sizes = []
    jobs = owner.start()
    while jobs:
        entry, *jobs = jobs
        sizes.append(len(entry) if isinstance(entry, Bundle) else 1)
        jobs += owner.advance(receipt(entry)) if isinstance(entry, Bundle) else owner.tell(entry)
    assert sizes == [3, 3, 2]
    assert len(owner.state("load").map_states) == 8


def test_list_that_became_shorter_fails_the_rows_it_lost():
    items = [*range(6)]
    flow = batched(items)
    owner = owner_of(flow, window=1)
    (first,) = owner.start()[:1]
    assert isinstance(first, Bundle)
    reader = owner.progress.run_state.find("load-1").chain.readers[0]
    reader.__self__.pop()
    rest = owner.advance(receipt(first))
    states = [item for bundle in rest for item in bundle.columns[0]]
    assert [type(state).__name__ for state in states] == ["int", "int", "Failed"]


def test_slowest_children_and_means_are_known():
    owner = owner_of(batched())
    first, second = owner.start()
    owner.advance(receipt(first, seconds=0.5), receipt(second, seconds=2.0))
    assert [(child.slug, child.seconds) for child in owner.progress.slowest()][:3] == [("load-1", 2.0)] * 3
    chain = owner.progress.run_state.find("load-1").chain
    assert chain.longest == 2.0
    assert 0.5 < chain.mean < 2.0


def test_attempts_are_told_to_a_history():
    owner = owner_of(batched(), record=True)
    first, _ = owner.start()
    owner.advance(receipt(first, others={1: failed()}, keys=["a", None, "c"]))
    events = {event.row: event for event in owner.progress.run_state.events}
    assert [(events[row].item_key, type(events[row].state)) for row in range(3)] == [
        ("a", Success),
        (None, Failed),
        ("c", Success),
    ]
    assert (events[0].worker, events[0].seconds, events[0].attempt) == ("host:1", 0.1, 1)


def test_rows_that_start_in_another_order_begin_one_by_one():
    owner = owner_of(batched(priority=lambda x: x))
    assert not any(isinstance(entry, Bundle) for entry in owner.start())


def test_jobs_of_a_bundle_are_made_once():
    owner = owner_of(batched())
    first, _ = owner.start()
    assert first.jobs is first.jobs
    assert unpack([first]) == first.jobs
    rows = owner.progress.run_state.find("load-1").chain.open_rows
    assert [type(map_row) for map_row in rows.values()] == [MapRow] * 6
    assert rows[1].jobs == [first.jobs[1]]


def test_jobs_with_the_number_of_a_batch_are_a_bundle():
    owner = owner_of(batched())
    first, second = owner.start()
    single, bundles = gathered([*first.jobs, second])
    assert single == []
    assert [[*bundle.rows] for bundle in bundles] == [[3, 4, 5], [0, 1, 2]]


def test_bundle_of_which_nothing_plainly_succeeded_needs_no_columns():
    owner = owner_of(batched())
    first, second = owner.start()
    none = BundleRecords("host:1", [], [], [], {number: failed() for number in range(3)})
    owner.advance(BundleReceipt(first, none), receipt(second))
    assert [type(state) for state in owner.state("load").map_states] == [Failed] * 3 + [Success] * 3
    assert owner.progress.done


class Watched:
    """Notes what it is told, and what it could read then."""

    def __init__(self, step_state):
        self.step_state = step_state
        self.told = []

    def row(self, row, state, width):
        self.told.append((row, type(state)))

    def succeeded(self, rows):
        self.told.append([(row, self.step_state.children[row].result) for row in rows])

    def ended(self, state):
        self.told.append(type(state))


def test_who_watches_a_map_is_told_of_a_bundle_at_once():
    owner = owner_of(batched())
    first, second = owner.start()
    step_state = owner.progress.run_state.find("load-1")
    step_state.watcher = watched = Watched(step_state)
    owner.advance(receipt(second, others={1: failed()}))
    owner.advance(receipt(first))
    assert watched.told == [
        [(3, "r3"), (5, "r5")],
        (4, Failed),
        [(0, "r0"), (1, "r1"), (2, "r2")],
        type(step_state.state),
    ]
