"""The verbs that write the tables of a run: what has to move together, moves together."""

from __future__ import annotations

from owner import Owner, named

from prefectish import Flow, flatten
from prefectish.engine.scheduling.run_state import NEVER_STARTED, AdmissionMode
from prefectish.engine.state import Cancelled, Failed, Mapped, Success


def started(width=3, window=100, **options):
    with Flow("changes") as flow:
        named("total")(named("load", **options).map(list(range(width))))
    owner = Owner(flow, window=window)
    owner.start()
    return owner, owner.progress.run_state.find("load-1"), owner.progress.changes


def test_final_state_fills_its_row_and_the_last_one_ends_the_step():
    owner, load, changes = started(2)
    for row in (1, 0):
        changes.finish_position(load.chain, load.chain.open_rows[row], 0, Success(None, row), None)
    assert (load.left, load.final) == (0, True)
    assert [state.result for state in load.state.map_states] == [0, 1]
    assert owner.progress.run_state.touched, "what reads the step is considered"


def test_states_of_an_ended_map_are_no_copy_until_one_of_them_is_changed_here():
    _, load, changes = started(2)
    for row in (0, 1):
        changes.finish_position(load.chain, load.chain.open_rows[row], 0, Success(None, row), None)
    read = load.state.map_states
    assert read is load.children, "a million children would be held twice"
    changes.drop_result(load, 0)
    changes.forget_state(load, 1)
    assert (load.children[0].result, load.children[1]) == (None, None)
    assert [state.result for state in read] == [0, 1]


def test_failures_and_kinds_are_counted_and_taken_back_together():
    _, load, changes = started(3)
    row = load.chain.open_rows[0]
    changes.finish_position(load.chain, row, 0, Failed("no"), None)
    assert (load.failures, load.kinds, load.left) == (1, {Failed: 1}, 2)
    changes.reopen(load.chain, row, [0])
    assert (load.failures, load.kinds, load.left, row.final) == (0, {Failed: 0}, 3, 0)
    assert load.children[0] is None


def test_failure_beyond_what_is_allowed_asks_for_a_stop():
    owner, load, changes = started(3, on_child_failure="cancel")
    changes.finish_position(load.chain, load.chain.open_rows[0], 0, Failed("no"), None)
    assert owner.progress.run_state.stopping == {load.chain.spec.ident: AdmissionMode.CANCEL}


def test_mode_of_a_chain_never_opens_again():
    _, load, changes = started()
    changes.stop_chain(load.chain, AdmissionMode.CANCEL)
    changes.stop_chain(load.chain, AdmissionMode.STOP)
    assert load.chain.admission_mode is AdmissionMode.CANCEL


def test_row_that_never_starts_ends_in_the_states_given():
    _, load, changes = started(3, window=1)
    changes.never_start(load.chain, 2, NEVER_STARTED)
    assert load.children[2] is NEVER_STARTED
    assert load.chain.done == 1


def test_place_in_the_window_is_given_back_once():
    owner, load, changes = started(2)
    row = load.chain.open_rows[0]
    for _ in range(2):
        changes.leave_window(row)
    assert owner.progress.admission.open == 1


def test_row_taken_back_gives_back_its_place_and_its_probe():
    owner, load, changes = started(2)
    row = load.chain.open_rows[0]
    changes.probe(load.chain, row)
    changes.forget_row(load.chain, 0)
    assert (load.chain.probing, owner.progress.admission.open, list(load.chain.open_rows)) == (0, 1, [1])


def test_lost_job_is_awaited_no_longer():
    owner, load, changes = started(1)
    row = load.chain.open_rows[0]
    (job,) = row.jobs
    assert changes.lose_job(row, job, None) == 1
    assert (row.submitted, job.awaiting) == (0, 0)
    del owner


def test_elements_of_a_finished_row_add_rows_to_every_step_of_the_flattened_map():
    with Flow("grows") as flow:
        lists = named("lists").map([0, 1])
        named("each").map(flatten(lists))
    owner = Owner(flow)
    first, _ = owner.start()
    owner.tell(first, Success(None, [1, 2, 3]), widths=[3])
    each = owner.progress.run_state.find("each-1")
    assert (len(each.children), each.left, each.map_state.width, each.map_state.closed) == (3, 3, 3, False)


def test_iterator_gives_a_row_for_each_item_and_closes_its_map():
    with Flow("pulled") as flow:
        named("load").map(iter([7]))
    owner = Owner(flow, window=5)
    (job,) = owner.start()
    load = owner.progress.run_state.find("load-1")
    assert job.items == (7,)
    assert (load.map_state.closed, load.map_state.source, len(load.children)) == (True, None, 1)


def test_iterator_that_raises_ends_its_map_with_a_child_that_says_so():
    def broken():
        yield 1
        raise OSError("disk gone")

    with Flow("pulled") as flow:
        named("load").map(broken())
    owner = Owner(flow, window=5)
    _, second = owner.start()
    assert isinstance(second.items[0], Failed)
    assert "disk gone" in second.items[0].message


def test_handlers_see_the_end_that_no_attempt_made():
    owner, load, changes = started(2)
    changes.end_position(load.chain, load.chain.open_rows[0], 0, Cancelled("cancelled"))
    assert ("load", "Pending", "Cancelled") in owner.changes
    assert isinstance(owner.state("load"), Mapped)
