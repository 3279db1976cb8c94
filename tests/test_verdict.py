import pytest

from prefectish import Flow, Task
from prefectish.engine.plan.compile import compile_flow
from prefectish.engine.scheduling.verdict import expand, first_causes, flow_state
from prefectish.engine.state import (
    Cancelled,
    Crashed,
    Failed,
    Mapped,
    Paused,
    Pending,
    Running,
    Skipped,
    Success,
    TriggerFailed,
)
from prefectish.engine.worker.decide import finished


def chain(*states, references=None):
    """Return the plan of a chain of tasks, and the states."""
    tasks = [Task(f"t{n}") for n in range(len(states))]
    flow = Flow("chain", tasks=tasks)
    flow.chain(*tasks)
    if references is not None:
        flow.set_reference_tasks([tasks[n] for n in references])
    return compile_flow(flow, {}), states


def verdict(*states, references=None):
    return flow_state(*chain(*states, references=references))


@pytest.mark.parametrize(
    ("states", "references", "kind", "message", "code"),
    [
        ([], None, Success, "All reference tasks succeeded.", 0),
        ([Success()], None, Success, "All reference tasks succeeded.", 0),
        ([Skipped()], None, Success, "All reference tasks succeeded.", 0),
        ([Failed(), Success()], None, Success, "All reference tasks succeeded.", 0),
        ([Failed(), Success()], [0], Failed, "Some reference tasks failed.", 1),
        ([Success(), TriggerFailed()], None, Failed, "Some reference tasks failed.", 1),
        ([Cancelled()], None, Cancelled, "Some reference tasks were cancelled.", 6),
        ([Cancelled(), Failed()], [0, 1], Failed, "Some reference tasks failed.", 1),
        ([Paused(), Success()], [1], Running, None, 5),
        ([Failed(), Pending()], [0], Running, None, 5),
        ([Mapped(map_states=[Success(), Failed()])], None, Failed, "Some reference tasks failed.", 1),
        ([Mapped(map_states=[Success(), Cancelled()])], None, Cancelled, "Some reference tasks were cancelled.", 6),
        ([Mapped(map_states=[Success(), Paused()])], None, Running, None, 5),
        ([Mapped(map_states=[None])], None, Running, None, 5),
        ([Mapped(map_states=[])], None, Success, "All reference tasks succeeded.", 0),
        ([Crashed()], None, Failed, "Some reference tasks failed.", 3),
    ],
)
def test_flow_state(states, references, kind, message, code):
    state = verdict(*states, references=references)
    assert type(state) is kind
    assert state.exit_code == code
    if message is not None:
        assert state.message == message


def test_exit_code_is_that_of_the_first_cause():
    assert verdict(Crashed(), TriggerFailed(), TriggerFailed()).exit_code == 3
    assert verdict(Mapped(map_states=[Success(), Crashed()]), TriggerFailed()).exit_code == 3
    assert verdict(Crashed(), Failed()).exit_code == 1
    assert verdict(Failed(), Crashed(), TriggerFailed()).exit_code == 3
    assert verdict(Failed(), TriggerFailed()).exit_code == 1


def test_first_causes_are_found_through_failed_triggers():
    assert first_causes(*chain(Failed(), TriggerFailed(), TriggerFailed())) == {0}
    assert first_causes(*chain(Failed(), Failed(), TriggerFailed())) == {1}
    assert first_causes(*chain(Failed(), Success(), Failed())) == {2}
    assert first_causes(*chain(Success(), Success())) == set()
    mixed = Mapped(map_states=[Failed(), TriggerFailed()])
    assert first_causes(*chain(Failed(), mixed)) == {0, 1}


def test_first_causes_of_a_long_chain_do_not_grow_the_stack():
    states = [Failed(), *[TriggerFailed()] * 3000]
    assert first_causes(*chain(*states)) == {0}


def test_expand_and_finished_look_at_children():
    children = [Success(), Pending()]
    assert list(expand(Mapped(map_states=[*children, None]))) == children
    assert list(expand(children[0])) == children[:1]
    assert not finished(Mapped(map_states=children))
    assert finished(Mapped(map_states=[Mapped(map_states=[Failed()])]))
    assert not finished(Mapped(map_states=[Mapped(map_states=[None])]))
