"""Names of Prefect 2 and 3 (MR6): each does what it says, and those that are not here say what to write."""

from __future__ import annotations

import functools
import pickle

import numpy as np
import pytest
from bodies import append, inc, lines

import prefectish
from prefectish import (
    DaskTaskRunner,
    Flow,
    ThreadPoolTaskRunner,
    context,
    exponential_backoff,
    flow,
    get_logger,
    get_run_logger,
    task,
    tasks,
)
from prefectish.cache_policies import INPUTS, NO_CACHE, TASK_SOURCE
from prefectish.engine.state import Cancelled, Cancelling, Crashed, Failed, Mapped, Paused, Running, Success
from prefectish.errors import FlowDefinitionError
from prefectish.results import LocalResult

NOTHING = object()  # as many functions mark an argument that is left out


def run_with(executor, function, *args, **options):
    return flow(function, executor=executor, history=False, **options)(*args)


def test_mr6_options_of_tasks_under_their_later_names():
    made = task(lambda x: x, log_prints=True, timeout_seconds=3, persist_result=False, retry_jitter_factor=0.5,
                description="identity", retry_delay_seconds=4)  # fmt: skip
    assert (made.log_stdout, made.timeout, made.checkpoint, made.retry_jitter) == (True, 3.0, False, 0.5)
    assert (made.description, made.max_retries) == ("identity", 0)
    again = made.with_options(retries=2, retry_delay_seconds=[1, 2])
    assert (again.max_retries, again.retry_delay, again.log_stdout) == (2, [1, 2], True)
    assert made.fn(7) == 7
    with pytest.raises(ValueError, match="timeout_seconds=3 and timeout=4 set the same option; pass one"):
        task(lambda x: x, timeout_seconds=3, timeout=4)


@pytest.mark.parametrize("make", [task, flow])
def test_mr6_options_that_are_not_here_say_what_to_write(make):
    with pytest.raises(TypeError, match=r"has no option 'result_storage'; write result=LocalResult"):
        make(lambda x: x, result_storage="s3/mine")
    with pytest.raises(TypeError, match=r"has no option 'on_cancellation'; write state_handlers"):
        make(lambda x: x, on_cancellation=[])
    with pytest.raises(TypeError, match=r"has no option 'retrys'; did you mean 'retries'"):
        make(lambda x: x, retrys=2)


def test_mr6_prints_are_logged_and_the_run_logger_is_that_of_the_task(executor, in_process, caplog):
    @task
    def prints(x):
        print(f"task prints {x}")
        get_run_logger().info("task logs %s", x)

    @flow(executor=executor, history=False, log_prints=True)
    def shown():
        print("flow prints")
        prints(1)
        prints.submit(2).result()

    with caplog.at_level("INFO", logger="prefectish"):
        shown()
    said = {(record.name.rpartition(".")[2], record.getMessage()) for record in caplog.records}
    assert ("shown", "flow prints") in said
    if in_process:
        assert {("prints", f"task {verb} {x}") for verb in ("prints", "logs") for x in (1, 2)} <= {
            (name.partition("[")[0].partition("-")[0], text) for name, text in said
        }
    assert get_run_logger() is get_logger()


def test_mr6_hooks_take_two_or_three_arguments_and_come_in_lists(executor, in_process):
    seen = []

    def short(obj, state):
        seen.append((obj.name, type(state).__name__))

    def long(obj, run, state):
        seen.append((obj.name, run.name.partition("-")[0], type(state).__name__))

    @task(on_completion=[short, long], on_failure=long)
    def half(x):
        return 1 / x

    def halves():
        half(1)
        half(0, return_state=True)
        return 1

    assert run_with(executor, halves, on_completion=[short], on_failure=[short], flow_run_name="night") == 1
    if in_process:
        assert seen == [
            ("half", "Success"), ("half", "half", "Success"), ("half", "half", "Failed"), ("halves", "Success"),
        ]  # fmt: skip
    with pytest.raises(TypeError, match="on_completion must be a function, got 3"):
        task(lambda x: x, on_completion=[3])


def test_mr6_lists_of_hooks_for_recorded_flows():
    seen = []
    with Flow("recorded", on_failure=[lambda of, state: seen.append(type(state).__name__)]) as recorded:
        task(lambda: 1 / 0, name="fails")()
    recorded.run(history=False)
    assert seen == ["Failed"]


def test_mr6_retry_condition_is_asked_with_the_run_and_the_state(executor, tmp_path):
    def worth_it(of, run, state):
        with open(tmp_path / "asked", "a") as file:
            file.write(f"{of.name} {run.run_count} {state.result} {run.flow_name}\n")
        return "1" in str(state.result)

    @task(retries=5, retry_condition_fn=worth_it)
    def fails():
        with open(tmp_path / "tries", "a") as file:
            file.write("x")
        raise ValueError(len((tmp_path / "tries").read_text()))

    def tries():
        return fails(return_state=True)

    assert run_with(executor, lambda: type(fails(return_state=True)).__name__) == "Failed"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["fails 1 1 <lambda>", "fails 2 2 <lambda>"]


def test_mr6_retry_condition_that_fails_ends_the_retries():
    @task(retries=3, retry_condition_fn=lambda of, run, state: 1 / 0)
    def fails():
        raise ValueError("first")

    with Flow("asks") as asks:
        fails()
    state = asks.run(history=False)["fails"]
    assert state.message.startswith("retry_condition_fn of fails failed: ZeroDivisionError")


def test_mr6_delays_double_and_may_be_lists_or_functions_of_them():
    delays = exponential_backoff(10)
    assert [delays(1), delays(2), delays(3)] == [10.0, 20.0, 40.0]
    assert pickle.loads(pickle.dumps(delays))(2) == 20.0
    for delay in (exponential_backoff(0.001), [0.001, 0.002], lambda n: [0.001] * n, lambda n: 0.001):
        tries = []

        @task(retries=2, retry_delay_seconds=delay)
        def fails(tries=tries):
            tries.append(1)
            raise ValueError(len(tries))

        @flow(history=False)
        def waits(fails=fails):
            fails(return_state=True)
            return None

        waits()
        assert len(tries) == 3


def test_mr6_cache_policies(executor, tmp_path):
    def counts(policy, **options):
        @task(
            name=f"counted in {tmp_path.name}",
            cache_policy=policy,
            result=LocalResult(str(tmp_path / repr(policy))),
            **options,
        )
        def counted(x, y):
            with open(tmp_path / f"calls {policy!r}", "a") as file:
                file.write(".")
            return x

        def calls():
            return [counted(1, 2), counted(1, 3), counted(1, 2), counted(4, 2)]

        found = run_with(executor, calls)
        return found, len((tmp_path / f"calls {policy!r}").read_text())

    assert counts(INPUTS) == ([1, 1, 1, 4], 3)
    assert counts(INPUTS + TASK_SOURCE) == ([1, 1, 1, 4], 3)
    assert counts(NO_CACHE) == ([1, 1, 1, 4], 4)


def test_inputs_as_a_policy_are_also_those_that_are_left_to_their_defaults(spelled, tmp_path):
    def scaled(default):
        def scale(x, factor=default):
            return x * factor

        return task(scale, cache_policy=INPUTS)

    def results(scale):
        program = {"map": lambda: scale.map([1, 2]), "call": lambda: spelled.call(scale, 3)}
        found = spelled.states(lambda: {k: v() for k, v in program.items()}, result=LocalResult(str(tmp_path)))
        return [child.result for child in found["map"].map_states], found["call"].result

    assert results(scaled(2)) == ([2, 4], 6)
    assert results(scaled(3)) == ([3, 6], 9)
    assert results(scaled(2)) == ([2, 4], 6)


def test_inputs_as_a_policy_do_without_defaults_that_have_no_hash(spelled, caplog, tmp_path):
    runs = tmp_path / "runs"

    @task(cache_policy=INPUTS)
    def load(x, missing=NOTHING):
        with runs.open("a") as file:
            file.write("x")
        return x

    for _ in range(2):
        spelled.states(lambda: {"load": spelled.call(load, str(runs))}, result=LocalResult(str(tmp_path)))
    assert runs.read_text() == "x"
    assert "is not cached" not in caplog.text


def test_warning_about_inputs_of_a_policy_calls_the_task_by_its_label(spelled, caplog):
    load = task(lambda x: 1, name="load", cache_policy=INPUTS)
    spelled.states(lambda: {"load": spelled.call(load, object())})
    warned = [record.getMessage() for record in caplog.records if "is not cached" in record.getMessage()]
    assert {text.partition(" is not")[0] for text in warned} == {"load"}


def test_mr6_sums_of_policies():
    @task(cache_policy=INPUTS - "client")
    def first(x, client):
        return x

    key, facts = first.cache_key_fn, {"task": first, "task_name": "first"}
    assert key(facts, {"x": 1, "client": object()}) == key(facts, {"x": 1, "client": object()})
    assert key(facts, {"x": 1, "client": 0}) != key(facts, {"x": 2, "client": 0})
    assert key(facts, {"x": 1}) != key({**facts, "task_name": "second"}, {"x": 1})
    source = INPUTS + TASK_SOURCE
    assert source(facts, {"x": 1}) != source({**facts, "task": inc}, {"x": 1})
    assert (repr(source), repr(INPUTS + NO_CACHE)) == ("INPUTS + TASK_SOURCE", "INPUTS")
    with pytest.raises(TypeError, match="cache_policy must be INPUTS, TASK_SOURCE, NO_CACHE or a sum of them"):
        task(lambda x: x, cache_policy="inputs")
    with pytest.raises(ValueError, match="cache_policy and cache_key_fn both say"):
        task(lambda x: x, cache_policy=INPUTS, cache_key_fn=lambda *of: "key")


def test_mr6_names_of_runs_of_flows():
    @flow(history=False, flow_run_name="load {day[0]}", description="loads")
    def loads(day):
        return prefectish.context.flow_run_name

    assert loads(["mon"]) == "load mon"
    assert loads.with_options(flow_run_name=lambda: "mine")(["mon"]) == "mine"
    assert (loads.description, loads.fn.__name__) == ("loads", "loads")
    with pytest.raises(FlowDefinitionError, match="must be filled by arguments of the flow, and night is not one"):
        flow(lambda day: day, flow_run_name="load {night}")


def test_mr6_task_runners_are_executors():
    from prefectish.executors import DaskExecutor, LocalDaskExecutor

    threads = ThreadPoolTaskRunner(max_workers=2)
    assert (type(threads), threads.num_workers) == (LocalDaskExecutor, 2)
    assert type(DaskTaskRunner(address="tcp://somewhere:8786")) is DaskExecutor
    assert tasks.DaskTaskRunner is DaskTaskRunner
    assert tasks.exponential_backoff is exponential_backoff

    @flow(history=False, task_runner=threads)
    def adds():
        return inc.submit(1).result()

    assert adds() == 2


def test_mr6_states_are_completed():
    states = (Success(), Failed("no"), Cancelled(), Cancelling(), Crashed(), Paused(), Mapped(), Running())
    questions = ("completed", "final", "cancelled", "cancelling", "crashed", "paused")
    assert {type(s).__name__: [q for q in questions if getattr(s, f"is_{q}")()] for s in states} == {
        "Success": ["completed", "final"], "Failed": ["final"], "Cancelled": ["final", "cancelled"],
        "Cancelling": ["cancelling"], "Crashed": ["final", "crashed"], "Paused": ["paused"],
        "Mapped": ["completed", "final"], "Running": [],
    }  # fmt: skip


def by_graph(made, *args):
    with Flow("graph") as graph:
        out = made(*args)
    return graph.run(history=False).result[out]


def by_function(made, *args):
    return flow(lambda: [made(*args, return_state=True)], history=False, name="function")()[0]


@pytest.mark.parametrize("front", [by_graph, by_function])
def test_mr6_words_of_tasks_mean_the_same_in_both_front_ends(front, caplog):
    told = []

    def count():
        told.append(context.task_run_count)
        get_run_logger().info("tried")
        print("printed")
        if context.task_run_count < 2:
            raise OSError("again")
        return context.task_run_count

    def hook(task, run, state):
        told.append((task.name, run.run_count, state.is_completed()))

    options = {"on_completion": [hook, lambda task, state: told.append("done")], "on_failure": [hook]}
    plain = task(count, retries=2, retry_delay_seconds=[0, 0], timeout_seconds=60, log_prints=True, **options)
    with caplog.at_level("INFO", logger="prefectish"):
        assert front(plain).result == 2
    assert told == [1, ("count", 1, False), 2, ("count", 2, True), "done"]
    assert {"tried", "printed"} <= {record.getMessage() for record in caplog.records}
    never = plain.with_options(name="never", retry_condition_fn=lambda task, run, state: run.run_count > 5)
    assert front(never).is_failed()
    for delay in (exponential_backoff(0.001), lambda attempt: 0, 0):
        assert front(plain.with_options(retry_delay_seconds=delay)).is_completed()


@pytest.mark.parametrize("front", [by_graph, by_function])
@pytest.mark.parametrize(("policy", "runs"), [(INPUTS, 1), (INPUTS + TASK_SOURCE, 1), (NO_CACHE, 2)])
def test_mr6_cache_policies_mean_the_same_in_both_front_ends(front, policy, runs, tmp_path):
    ran = tmp_path / "ran"
    cached = task(lambda x: append(ran, x), name=f"cached {front.__name__} {tmp_path}", cache_policy=policy)
    kept = task(lambda x: x, persist_result=True, result=LocalResult(str(tmp_path)))
    assert [front(cached, 5).is_completed() for _ in range(2)] == [True, True]
    assert (len(lines(ran)), front(kept, 3).result) == (runs, 3)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


def test_mr6_hooks_are_given_by_decorators(executor, in_process):
    told = []

    @task
    def half(x):
        return 1 / x

    @flow(executor=executor, history=False)
    def halves(x):
        return half(x)

    @half.on_completion
    @half.on_failure
    def of_task(task, run, state):
        told.append((task.name, type(state).__name__))

    @halves.on_completion
    @halves.on_failure
    def of_flow(flow, state):
        told.append((flow.name, type(state).__name__))

    assert halves(1) == 1
    halves(0, return_state=True)
    with Flow("graph") as graph:
        half(1)
    graph.on_completion(of_flow)
    graph.run(history=False)
    expected = [("half", "Success"), ("halves", "Success"), ("half", "Failed"), ("halves", "Failed")]
    here = expected if in_process else [pair for pair in expected if pair[0] != "half"]
    assert told == [*here, ("half", "Success"), ("graph", "Success")]
    assert of_task.__name__ == "of_task"


class Hooks:
    def two(self, obj, state): ...

    @staticmethod
    def three(obj, run, state): ...

    def __call__(self, *given): ...


@pytest.mark.parametrize(
    ("option", "function"),
    [
        ("on_completion", lambda: None),
        ("on_failure", [Hooks().two, lambda obj: None]),
        ("on_failure", functools.partial(lambda a, b, c, d: None, 1, 2, 3)),
        ("on_completion", lambda obj, *, state: None),
        ("retry_condition_fn", lambda state: True),
        ("retry_condition_fn", Hooks().two),
        ("retry_delay_seconds", lambda: 1),
        ("retry_delay_seconds", functools.partial(lambda a, b, c: 1)),
        ("cache_key_fn", lambda context: "key"),
        ("state_handlers", [lambda obj, state: state]),
    ],
)
def test_mr6_function_that_cannot_be_called_is_refused(option, function):
    with pytest.raises(TypeError, match=r"must take \("):
        task(inc.fn, retries=1, **{option: function})
    if option in ("on_completion", "on_failure", "state_handlers"):
        with pytest.raises(TypeError, match=r"must take \("):
            flow(inc.fn, **{option: function})
    if option in ("on_failure", "state_handlers"):
        with pytest.raises(TypeError, match=r"must take \(|must be a function"):
            Flow("graph", **{option: function})


@pytest.mark.parametrize(
    "given",
    [
        {"name": 3}, {"description": 3}, {"log_prints": "yes"}, {"validate_parameters": "no"}, {"state_handlers": 5},
        {"state_handlers": ["x"]}, {"retry_delay_seconds": "x"}, {"retry_delay_seconds": [1, -1]}, {"result": "folder"},
        {"retry_delay_seconds": lambda: 1}, {"retries": "x"}, {"timeout_seconds": -1}, {"schedule": 5},
    ],
    ids=lambda given: "-".join(given),
)  # fmt: skip
def test_mr6_options_of_flow_functions_are_checked_where_it_is_made(given):
    (name,) = given
    with pytest.raises((TypeError, ValueError), match=name.removesuffix("_seconds")):
        flow(inc.fn, retries=1, **given) if name != "retries" else flow(inc.fn, **given)
    with pytest.raises((TypeError, ValueError)):
        flow(inc.fn, retries=1).with_options(**given)


def keeps_state(flow, old, new):
    return new


@pytest.mark.parametrize("wrong", [[True], np.array([1, 0]), "yes", 2], ids=["list", "array", "text", "two"])
def test_mr6_what_is_no_switch_is_refused(wrong):
    with pytest.raises(FlowDefinitionError, match="log_prints must be True or False, got "):
        flow(inc.fn, log_prints=wrong)


@pytest.mark.parametrize(
    ("given", "read", "kept"),
    [
        ({"log_prints": None}, lambda made: made.log_prints, False),
        ({"log_prints": 1}, lambda made: made.log_prints, True),
        ({"log_prints": np.True_}, lambda made: made.log_prints, True),
        ({"validate_parameters": None}, lambda made: made.signature.validates, True),
        ({"validate_parameters": 0}, lambda made: made.signature.validates, False),
        ({"retries": None}, lambda made: made.options.retries, 0),
        ({"retry_delay_seconds": None}, lambda made: made.options.retry_delay, 0),
        ({"state_handlers": {keeps_state}}, lambda made: made.state_handlers, [keeps_state]),
        ({"state_handlers": {keeps_state: 1}.keys()}, lambda made: made.state_handlers, [keeps_state]),
    ],
    ids=[
        "prints-none",
        "prints-1",
        "prints-numpy",
        "validates-none",
        "validates-0",
        "retries-none",
        "delay-none",
        "set",
        "keys",
    ],
)
def test_mr6_options_of_flow_functions_that_stand_for_others_are_taken(given, read, kept):
    """None is what later Prefects say for the default of most of them."""
    for made in (flow(inc.fn, **given), flow(inc.fn).with_options(**given)):
        assert (read(made), type(read(made))) == (kept, type(kept))


@pytest.mark.parametrize("hook", [Hooks().two, Hooks.three, Hooks(), functools.partial(Hooks().two), print, max, dict])
def test_mr6_any_function_that_can_be_called_is_a_hook(hook):
    assert task(inc.fn, on_completion=hook, on_failure=[hook]).state_handlers
    assert task(
        inc.fn, retries=1, retry_delay_seconds=lambda attempt, error=None: 0, retry_condition_fn=Hooks()
    ).max_retries
