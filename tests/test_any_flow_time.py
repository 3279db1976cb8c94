"""Any flow that waits, pauses, loops and runs out of time ends in equal states everywhere, in virtual time."""

from __future__ import annotations

from collections import defaultdict

import cloudpickle
import pytest
import strategies
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import build, outcome, programs
from test_any_flow import ScrambledExecutor, check_ends, growing, resumed

from prefectish import context
from prefectish.engine.driver.inline import LocalExecutor
from prefectish.engine.state import Pending
from prefectish.engine.transitions import allowed
from prefectish.executors import LocalDaskExecutor
from prefectish.testing import VirtualClock

cloudpickle.register_pickle_by_value(strategies)

#: Programs that wait for hours, on any executor; and those whose bodies take time too, in this process.
patient = programs(timed=True)
limited = programs(timed=True, limited=True)

# The threads of a cluster draw random numbers while hypothesis looks.
randomly = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")


def run_program(program, executor, **options):
    flow, made = build(program)
    with VirtualClock() as clock:
        state = flow.run(executor=executor, history=False, **options)
    return outcome(state, made), clock.elapsed


@settings(max_examples=100)
@given(limited, st.integers(0, 2**32), st.integers(1, 20))
def test_any_timed_flow_ends_in_equal_states_in_any_order(program, seed, window):
    scrambled, _ = run_program(program, ScrambledExecutor(seed, window))
    assert scrambled == run_program(program, LocalExecutor())[0]


@settings(max_examples=50)
@given(limited, st.integers(0, 2**32), st.integers(1, 20))
def test_any_timed_flow_ends_in_equal_states_though_workers_die(program, seed, window):
    scrambled, _ = run_program(program, ScrambledExecutor(seed, window, losses=0.2))
    assert scrambled == run_program(program, LocalExecutor())[0]


@settings(max_examples=50)
@given(limited)
def test_any_timed_flow_takes_the_same_time_without_threads(program):
    assert run_program(program, LocalDaskExecutor("synchronous")) == run_program(program, LocalExecutor())


@settings(max_examples=40)
@given(limited)
def test_any_timed_flow_ends_in_equal_states_on_threads(program):
    threaded, _ = run_program(program, LocalDaskExecutor(num_workers=3))
    assert threaded == run_program(program, LocalExecutor())[0]


@randomly
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=patient)
def test_any_patient_flow_ends_in_equal_states_on_every_executor(executor, program):
    assert run_program(program, executor)[0] == run_program(program, LocalExecutor())[0]


@settings(max_examples=100)
@given(limited, st.integers(0, 2**32), st.integers(1, 20))
def test_any_timed_flow_that_pauses_continues_to_the_end_it_would_have_had(program, seed, window):
    flow, made = build(program)
    executor = ScrambledExecutor(seed, window)
    with VirtualClock():
        state = flow.run(executor=executor, history=False)
        for _ in range(10 * len(program)):  # a node may pause in each of its attempts
            if state.is_finished():
                break
            given_states = {task: resumed(each) for task, each in state.result.items()}
            state = flow.run(executor=executor, history=False, task_states=given_states)
        without_pauses = flow.run(executor=LocalExecutor(), history=False, context={"resume": True})
    assert outcome(state, made) == outcome(without_pauses, made)


@settings(max_examples=100)
@given(limited)
def test_any_timed_flow_keeps_the_rules(program):
    seen, times = defaultdict(list), defaultdict(list)

    def record(task, old, new):
        key = task.name, context.get("map_index")
        seen[key].append((old, new))
        times[key].append(clock.elapsed)

    flow, made = build(program, handlers=(record,))
    with VirtualClock() as clock:
        state = flow.run(executor=LocalExecutor(), history=False)
    for key, changes in seen.items():
        assert all(allowed(old, new) for old, new in changes)
        assert type(changes[0][0]) is Pending
        assert times[key] == sorted(times[key])
    grows = growing(flow)
    for task in made:
        if state.result[task].is_finished():  # a state that waits gets the time used so far, after its handlers
            check_ends(task.name, state.result[task], seen, in_order=task not in grows)


@settings(max_examples=60)
@given(limited, st.sampled_from([0.5, 5.0, 60.0, 4000.0]))
def test_any_timed_flow_that_is_out_of_time_ends_then_with_a_state_for_everything(program, timeout):
    flow, made = build(program)
    for executor in (LocalExecutor(), LocalDaskExecutor("synchronous"), LocalDaskExecutor(num_workers=3)):
        with VirtualClock() as clock:
            state = flow.run(executor=executor, history=False, timeout=timeout)
        assert clock.elapsed <= timeout
        if state.message == f"The flow run took longer than its timeout of {timeout:g} s.":
            assert state.is_failed()
            assert clock.elapsed == timeout
            assert all(strategies.told(state.result[task]) is not None for task in made)
            assert all(each.is_finished() for each in state.result.values())
