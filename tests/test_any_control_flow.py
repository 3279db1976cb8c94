"""Any program of branches and resources gives what Python gives, for one item and for each of many, everywhere."""

from __future__ import annotations

import cloudpickle
import strategies_control
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies_control import MODULUS, build, evaluate, programs

from prefectish import Flow, Parameter, apply_map
from prefectish.control_flow.resources import ResourceCleanup, ResourceSetup
from prefectish.engine.driver.inline import LocalExecutor
from prefectish.engine.state import Mapped, Skipped, Success
from prefectish.engine.worker.decide import finished

cloudpickle.register_pickle_by_value(strategies_control)

numbers = st.integers(0, MODULUS - 1)


def value_in(state):
    """Return the value of a state, None of a failed one; nothing else may come out of a program."""
    assert type(state) is Success or state.is_failed(), state
    return state.result if type(state) is Success else None


def check_clean_up(flow, state):
    """What was set up was cleaned up, and nothing else was."""
    setups, cleanups = (flow.get_tasks(task_type=kind) for kind in (ResourceSetup, ResourceCleanup))
    for setup, cleanup in zip(setups, sorted(cleanups, key=lambda t: setups.index(setup_of(flow, t))), strict=True):
        pairs = zip(children(state.result[setup]), children(state.result[cleanup]), strict=True)
        assert all(type(ended) is (Success if type(made) is Success else Skipped) for made, ended in pairs)


def setup_of(flow, cleanup):
    return next(edge.upstream_task for edge in flow.edges_to(cleanup) if edge.key == "resource")


def children(state):
    return state.map_states if isinstance(state, Mapped) else [state]


def check_one(program, item, executor):
    with Flow("one") as flow:
        made = build(program, Parameter("item")())
    state = flow.run(item=item, executor=executor, history=False)
    assert [value_in(state.result[task]) for task in made] == evaluate(program, item)
    assert all(finished(each) for each in state.result.values())
    check_clean_up(flow, state)


def check_each(program, items, executor):
    with Flow("each") as flow:
        made = apply_map(lambda item: build(program, item), Parameter("items"))
    state = flow.run(items=items, executor=executor, history=False)
    values = [[value_in(child) for child in state.result[task].map_states] for task in made]
    assert values == [list(column) for column in zip(*(evaluate(program, item) for item in items), strict=True)]
    check_clean_up(flow, state)


@settings(max_examples=200)
@given(programs, numbers)
def test_any_program_gives_what_python_gives(program, item):
    check_one(program, item, LocalExecutor())


@settings(max_examples=200)
@given(programs, st.lists(numbers, min_size=1, max_size=4))
def test_any_program_gives_it_for_each_item(program, items):
    check_each(program, items, LocalExecutor())


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=programs, items=st.lists(numbers, min_size=1, max_size=4))
def test_any_program_gives_it_on_every_executor(executor, program, items):
    check_one(program, items[0], executor)
    check_each(program, items, executor)


@settings(max_examples=50)
@given(programs)
def test_any_program_has_one_version(program):
    def version():
        with Flow("one") as flow:
            build(program, Parameter("item")())
        return flow.version

    assert version() == version()
