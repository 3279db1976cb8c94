from datetime import UTC, datetime, timedelta

import pytest

from prefectish import Flow, context, flatten, task, triggers
from prefectish.engine import signals
from prefectish.engine.jobs.job import ITEM, SHARED, STEP, ChainSpec, Job, Pick, StepSpec
from prefectish.engine.plan.compile import compile_flow
from prefectish.engine.state import (
    Failed,
    Paused,
    Pending,
    Resume,
    Retrying,
    Scheduled,
    Success,
)
from prefectish.engine.worker.attempt import PENDING, run_step
from prefectish.engine.worker.run_steps import gather, run_job
from prefectish.tasks.mapping import A_LIST

RUN = {"flow_run_id": "run", "flow_name": "flow", "colour": "red"}


def chain_of(flow, wiring, shared=(), run=RUN):
    """Return the steps of a flow as one chain, wired by hand: one list of pairs a step."""
    steps = [step for step in compile_flow(flow, {}).steps if step.literal is None]
    specs = tuple(
        StepSpec(s.number, s.task, s.slug, s.inputs, s.constants, s.mapped, s.measure, tuple(w))
        for s, w in zip(steps, wiring, strict=True)
    )
    return ChainSpec(0, run, specs, tuple(shared), frozenset())


def single(body, **options):
    """Return a chain of one task without inputs."""
    with Flow("single") as flow:
        task(body, **options)()
    return chain_of(flow, [()])


def attempt(chain, upstream=(), start=PENDING, index=-1, position=0):
    return run_step(chain, position, index, upstream, start)


def one():
    return 1


def test_record_of_a_success():
    record = attempt(single(one))
    assert record.state == Success(result=1)
    assert record.seconds >= 0
    assert (record.due_in_seconds, record.width) == (None, None)


def test_record_of_a_retry_says_in_how_many_seconds_it_is_due():
    def fail():
        raise ValueError

    record = attempt(single(fail, max_retries=1, retry_delay=60))
    assert type(record.state) is Retrying
    assert record.state.run_count == 1
    assert 59 < record.due_in_seconds <= 60


def test_record_of_a_pause_without_a_time_is_not_due():
    def pause():
        raise signals.PAUSE

    record = attempt(single(pause))
    assert type(record.state) is Paused
    assert record.due_in_seconds is None


def test_retry_that_is_due_already_waits_no_time():
    def again():
        raise signals.RETRY(start_time=datetime.now(UTC) - timedelta(hours=1))

    assert attempt(single(again)).due_in_seconds == 0.0


def mapped_chain():
    """Return a chain of two mapped steps: b reads a's child, a reads an item and a value shared by all."""

    @task
    def a(x, y):
        return x + y

    @task
    def b(x):
        return 10 * x

    with Flow("chain") as flow:
        b.map(a.map([1, 2], y=[3, 4]))
    return chain_of(flow, [[(ITEM, 0), (SHARED, 0)], [(STEP, 0)]], [Success(None, 5)])


def test_job_runs_its_steps_one_after_another():
    job = Job(mapped_chain(), 0, 0, (0, 1), (1,), {}, {})
    assert [(p, r.state) for p, r in run_job(job)] == [(0, Success(None, 6)), (1, Success(None, 60))]


def test_job_takes_given_states_and_starts():
    chain = mapped_chain()
    job = Job(chain, 0, 1, (1,), (1,), {0: Success(None, 7)}, {1: Retrying(run_count=1)})
    assert [(p, r.state) for p, r in run_job(job)] == [(1, Success(None, 70))]


def test_step_behind_one_that_waits_is_not_ready():
    chain = mapped_chain()
    start = Resume()
    for upstream in (Retrying(), Pending(), Paused()):
        assert attempt(chain, [upstream], position=1).state is PENDING
        assert attempt(chain, [upstream], start, position=1).state is start


@pytest.mark.parametrize(
    ("item", "state"),
    [
        (5, Success(None, 5)),
        (None, Success()),
        (Failed("given"), Failed()),
        (Pick(Success(None, [[1, 2], [3]]), (0,)), Success(None, [1, 2])),
        (Pick(Success(None, [[1, 2], [3]]), (0, 1)), Success(None, 2)),
    ],
    ids=["value", "None", "state", "item", "element"],
)
def test_items_become_states(item, state):
    upstream = gather(mapped_chain(), 0, [item], {})
    assert upstream == [state, Success(None, 5)]


def test_item_that_cannot_be_read_is_a_failure_of_its_own():
    class Broken(list):
        def __getitem__(self, index):
            raise OSError("page 3 is gone")

    (state, _) = gather(mapped_chain(), 0, [Pick(Success(None, Broken([1])), (0,))], {})
    assert type(state) is Failed
    assert state.message == "item [0] could not be read: page 3 is gone"
    told = attempt(mapped_chain(), [state, Success()], index=0).state
    assert type(told) is Failed
    assert told.message == "argument 'x': item [0] could not be read: page 3 is gone"
    assert type(told.result) is OSError


def test_item_of_what_has_none_by_position_names_the_way_out():
    (state, _) = gather(mapped_chain(), 0, [Pick(Success(None, {5: 1}), (0,))], {})
    assert state.message.startswith(
        "item [0] could not be read: a dict cannot be mapped over: map over list(d.items())"
    )


def facts(*names):
    return {name: context.get(name, "-") for name in names}


def test_context_of_an_attempt():
    names = ["task_run_count", "task_slug", "map_index", "child_key", "task_run_id", "colour", "resume", "nothing"]
    chain = single(lambda: facts(*names), name="look")
    assert attempt(chain).state.result == {
        "task_run_count": 1,
        "task_slug": "look-1",
        "map_index": None,
        "child_key": "run-look-1--1-1",
        "task_run_id": "run-look-1--1",
        "colour": "red",
        "resume": "-",
        "nothing": "-",
    }
    assert "task_slug" not in context


@pytest.mark.parametrize(
    ("start", "run_count", "resume"),
    [
        (PENDING, 1, "-"),
        (Scheduled(), 1, "-"),
        (Retrying(run_count=4), 5, "-"),
        (Resume(), 1, True),
        (Paused(start_time=datetime.now(UTC)), 1, True),
    ],
    ids=repr,
)
def test_context_of_an_attempt_that_continues(start, run_count, resume):
    chain = single(lambda: facts("task_run_count", "resume"))
    assert attempt(chain, start=start).state.result == {"task_run_count": run_count, "resume": resume}


def test_context_can_be_listed():
    given = attempt(single(lambda: context.to_dict())).state.result
    assert given["task_name"] == "<lambda>"
    assert given["colour"] == "red"
    assert "task_loop_count" not in given


def test_pause_in_an_attempt_keeps_the_run_count():
    def pause_on_the_second():
        if context.task_run_count == 1:
            raise ValueError
        if not context.get("resume"):
            raise signals.PAUSE
        return context.task_run_count

    chain = single(pause_on_the_second, max_retries=1, retry_delay=0)
    paused = attempt(chain, start=attempt(chain).state).state
    assert type(paused) is Paused
    resumed = Resume(context=paused.context)
    assert attempt(chain, start=resumed).state == Success(None, 2)


def test_loop_continues_from_a_retry():
    def count_up():
        n = context.get("task_loop_result", 0)
        if n == 2 and context.task_run_count == 1:
            raise ValueError("in mid loop")
        if n == 3:
            return n, context.task_loop_count, context.task_run_count
        raise signals.LOOP(result=n + 1)

    chain = single(count_up, max_retries=1, retry_delay=0)
    retrying = attempt(chain).state
    assert type(retrying) is Retrying
    assert retrying.context["task_loop_count"] == 3
    assert attempt(chain, start=retrying).state.result == (3, 4, 1)


def recorded(chain, start=PENDING):
    """Run an attempt; return its record and the changes its handlers saw."""
    seen = []
    chain.steps[0].task.state_handlers.append(lambda task, old, new: seen.append((old, new)))
    return attempt(chain, start=start), seen


def test_handlers_see_the_states_in_order():
    record, seen = recorded(single(one))
    assert [repr(s) for pair in seen for s in pair] == [
        "Pending()",
        'Running("Starting task run.")',
        'Running("Starting task run.")',
        'Success("Task run succeeded.")',
    ]
    assert seen[-1][1] is record.state


def test_handler_sees_the_context_of_the_attempt():
    names = []
    chain = single(one, name="look", state_handlers=[lambda *_: names.append(context.task_full_name)])
    attempt(chain)
    assert names == ["look", "look"]


def test_handler_that_replaces_running_by_another_running_continues():
    from prefectish.engine.state import Running

    def relabel(task, old, new):
        return Running("mine") if new.is_running() else None

    _, seen = recorded(single(one, state_handlers=[relabel]))
    assert [new.message for _, new in seen] == ["mine", "Task run succeeded."]


def test_trigger_sees_the_context():
    seen = []

    def look(upstream):
        seen.append(context.task_name)
        return True

    attempt(single(one, name="look", trigger=look))
    assert seen == ["look"]


def test_width_of_a_result_that_is_mapped_over():
    def widths(value):
        with Flow("widths") as flow:
            give = task(lambda: value, name="give")
            made = give()
            task(lambda x: x, name="take").map(flatten(made))
        (spec, _) = (step for step in compile_flow(flow, {}).steps)
        chain = chain_of_steps(spec)
        return attempt(chain).width

    assert widths([[1], [2, 3], 4]) == (3, "list", (1, 2, -1))
    assert widths(None) == (-1, "NoneType", A_LIST)


def chain_of_steps(*steps):
    specs = tuple(StepSpec(s.number, s.task, s.slug, s.inputs, s.constants, s.mapped, s.measure, ()) for s in steps)
    return ChainSpec(0, RUN, specs, (), frozenset())


def test_length_that_raises_makes_a_result_unmappable_and_not_the_task_a_failure():
    class Odd:
        def __getitem__(self, i):
            return i

        def __len__(self):
            raise ValueError("no length")

    with Flow("widths") as flow:
        made = task(Odd, name="odd")()
        task(lambda x: x, name="take").map(made)
    (spec, _) = compile_flow(flow, {}).steps
    record = attempt(chain_of_steps(spec))
    assert record.state.is_successful()
    assert record.width == (-1, "Odd", "a list of its items: its length raised ValueError('no length')")


def test_manual_only_pauses_an_attempt():
    chain = single(one, trigger=triggers.manual_only)
    assert type(attempt(chain).state) is Paused
    assert attempt(chain, start=Resume()).state == Success(None, 1)
