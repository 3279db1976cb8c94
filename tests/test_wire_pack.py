"""What the client sends: tasks, chains, inputs of branches."""

from __future__ import annotations

import pickle
import threading

import pytest
from jobs import jobs_of

from prefectish import Flow, task, unmapped
from prefectish.engine.jobs.envelope import Encoded
from prefectish.engine.jobs.job import Pick
from prefectish.engine.jobs.references import Held, ResultRef, Unpicklable
from prefectish.engine.state import Failed, Mapped, Success
from prefectish.engine.wire import pack
from prefectish.engine.wire.pack import (
    MAX_BYTES_WITH_CALL,
    Packer,
    add_task_payloads,
    pack_chain,
    pickle_task,
    pickle_tasks,
    unpicklable_input,
)
from prefectish.errors import FlowDefinitionError

LARGE = "x" * (MAX_BYTES_WITH_CALL + 1)


@task
def add(x, y):
    return x + y


def chain_of(y):
    with Flow("flow") as flow:
        add.map([1, 2], unmapped(y))
    plan, jobs = jobs_of(flow)
    return pickle_tasks(plan), jobs[0].chain


def test_tasks_are_pickled_one_by_one():
    tasks, chain = chain_of(1)
    assert list(tasks) == [chain.steps[0].number]
    assert pickle.loads(tasks[chain.steps[0].number]).run(2, 3) == 5


def test_task_that_was_added_later_is_pickled_when_it_is_needed():
    tasks, chain = chain_of(1)
    later = {}
    add_task_payloads(chain, later)
    assert later.keys() == tasks.keys()
    kept = dict.fromkeys(tasks, b"known")
    add_task_payloads(chain, kept)
    assert set(kept.values()) == {b"known"}


def test_task_that_cannot_be_pickled_is_refused_by_name_and_part():
    lock = threading.Lock()

    @task
    def locked(x):
        return lock, x

    text = r"task locked-1 cannot be pickled: TypeError: .*it is locked\.lock.*made inside the body"
    with pytest.raises(FlowDefinitionError, match=text):
        pickle_task("locked-1", locked)


def test_chain_is_opened_with_its_tasks_and_constants():
    tasks, chain = chain_of(40)
    payload, held = pack_chain(chain, tasks)
    there = pickle.loads(payload)
    assert held == []
    assert there.values()[0] == chain.ident
    assert there.steps[0].slug == "add-1"
    assert there.steps[0].task.run(1, 2) == 3
    assert there.steps[0].wiring == chain.steps[0].wiring
    assert there.steps[0].constants == {"y": 40}


def test_constant_of_the_user_is_in_an_envelope():
    tasks, chain = chain_of([1, 2])
    there = pickle.loads(pack_chain(chain, tasks)[0])
    assert type(there.steps[0].constants["y"]) is Encoded
    assert there.steps[0].late == ("y",)


def test_large_constant_is_sent_beside_the_chain_once():
    tasks, chain = chain_of(LARGE)
    payload, held = pack_chain(chain, tasks)
    assert held == [LARGE]
    assert len(payload) < len(LARGE) // 10
    assert pickle.loads(payload).steps[0].constants["y"].number == 0


def test_constant_that_cannot_be_pickled_is_named_to_the_children_that_read_it():
    tasks, chain = chain_of(threading.Lock())
    there = pickle.loads(pack_chain(chain, tasks)[0])
    assert type(there.steps[0].constants["y"]) is Unpicklable
    assert there.steps[0].constants["y"].reason.startswith("TypeError")


def test_heavy_constant_is_warned_of(monkeypatch, caplog):
    monkeypatch.setattr(pack, "HEAVY", 1000)
    tasks, chain = chain_of("x" * 2000)
    pack_chain(chain, tasks)
    assert "argument 'y' of add has 0.0 MB" in caplog.text


def test_facts_of_the_run_that_cannot_be_pickled_are_left_out():
    tasks, chain = chain_of(1)
    chain = chain.replace(run={**chain.run, "mine": threading.Lock(), "caches": {}})
    assert pickle.loads(pack_chain(chain, tasks)[0]).run == {"flow_run_id": "a", "flow_name": "a flow"}


@pytest.mark.parametrize("item", [None, 5, "text"])
def test_simple_item_is_sent_as_it_is(item):
    packer = Packer()
    assert packer.item(item, "load-1[0]") is item
    assert packer.held == []


def test_item_of_the_user_is_sent_in_an_envelope():
    state = Packer().item([1, 2], "load-1[0]")
    assert type(state) is Success
    assert type(state._raw_result) is Encoded
    assert state.result == [1, 2]


def test_large_items_are_numbered_in_the_order_in_which_they_are_sent():
    packer = Packer()
    packer.held.append("of the chain")
    states = [packer.item(item, "load-1[0]") for item in (LARGE, [LARGE])]
    assert [state._raw_result.number for state in states] == [1, 2]
    assert packer.held[1] is LARGE
    assert packer.held[2].get() == [LARGE]


def test_result_on_a_worker_is_sent_as_a_reference():
    packer = Packer()
    held = Held("load-1", 10, "handle", None)
    state = packer.item(Success("done", held), "use-1[0]")
    assert (state.message, type(state._raw_result), packer.held) == ("done", ResultRef, [held])


def test_pick_keeps_its_path_and_mapped_states_their_places():
    packer = Packer()
    held = Held("load-1[1]", 10, "handle", None)
    pick = packer.item(Pick(Success(None, [1, 2]), (1,)), "use-1[1]")
    assert (type(pick), pick.path, pick.state.result) == (Pick, (1,), [1, 2])
    mapped = packer.item(Mapped(None, map_states=[Success(None, 1), Success(None, held)]), "use-1")
    assert [type(child._raw_result) for child in mapped.map_states] == [int, ResultRef]


def test_item_that_cannot_be_pickled_raises_and_its_record_says_why():
    _, chain = chain_of(1)
    lock = threading.Lock()
    with pytest.raises(TypeError) as caught:
        Packer().item({"a": lock}, "load-1[0]")
    record = unpicklable_input(chain.steps[0], 3, "x", {"a": lock}, caught.value)
    assert isinstance(record.state, Failed)
    assert record.state.message.startswith("argument 'x' of add-1[3] could not be pickled: TypeError: ")
    assert record.state.message.endswith("(it is x['a'])")
