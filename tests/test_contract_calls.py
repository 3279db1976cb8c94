"""The contract of every executor, of calls in both spellings: what a body is given, and what it gives back."""

from __future__ import annotations

import functools
from collections import deque

import pytest
from bodies import give, total
from real import note, notes, spend, until

from prefectish import (
    Flow,
    Task,
    allow_failure,
    apply_map,
    context,
    flatten,
    flow,
    history,
    mapped,
    product,
    task,
    triggers,
    unmapped,
    wait,
)
from prefectish.engine import signals
from prefectish.engine.state import (
    Cancelled,
    Failed,
    Mapped,
    Paused,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    State,
    Success,
    TimedOut,
    TriggerFailed,
)
from prefectish.errors import FlowDefinitionError
from prefectish.executors import LocalDaskExecutor
from prefectish.functions import futures
from prefectish.results import LocalResult


def kinds(state: State) -> list[type[State]]:
    """Return the classes of the states of a map's children."""
    assert type(state) is Mapped, state
    return [type(child) for child in state.map_states]


# ---------------------------------------------------------------------- what a map waits for


@task
def fails_on_one(n):
    if n == 1:
        raise ValueError("one")
    return n


@task
def follow(n):
    return n


def two_failed(upstream):
    return sum(state.is_failed() for state in upstream.values()) == 2 and len(upstream) == 4


@task(trigger=two_failed)
def count_failed(n):
    return n


@task(trigger=triggers.any_successful)
def one_is_enough(n):
    return n


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (1, 0, 0)], ids=str)
def test_f1_each_future_of_one_task_that_a_map_waits_for_counts(spelled, order):
    def program():
        waited = [spelled.call(fails_on_one, n) for n in order]
        return {"x": follow.map([7, 8], **spelled.waited(waited))}

    assert kinds(spelled.states(program)["x"]) == [TriggerFailed, TriggerFailed]


def test_f1_triggers_of_a_map_count_what_it_waits_for(spelled):
    def program():
        waited = [spelled.call(fails_on_one, n) for n in (1, 0, 1)]
        some = [spelled.call(fails_on_one, n) for n in (1, 0)]
        return {
            "two": count_failed.map([7, 8], **spelled.waited(waited)),
            "any": one_is_enough.map([7], **spelled.waited(some)),
        }

    found = spelled.states(program)
    assert kinds(found["two"]) == [Success, Success]
    assert kinds(found["any"]) == [Success]


@pytest.mark.parametrize("form", ["children", "nested", "set", "maps", "several maps"])
def test_f1_a_map_waits_for_futures_in_any_collection(executor, form):
    forms = {
        "children": lambda m, n: list(m),
        "nested": lambda m, n: [[m[1], [m[0]]]],
        "set": lambda m, n: [{m[1], m[0]}],
        "maps": lambda m, n: [m],
        "several maps": lambda m, n: [m, n],
    }

    def program():
        first, other = fails_on_one.map([1, 0]), fails_on_one.map([0, 2])
        waits = follow.map([7, 8], wait_for=forms[form](first, other))
        waits.wait()
        return kinds(waits.state)

    assert flow(program, executor=executor, history=False)() == [TriggerFailed, TriggerFailed]


#: What one passes to wait for two things.
SEVERAL = {
    "generator": lambda first, second: (each for each in (first, second)),
    "iterator": lambda first, second: reversed([second, first]),
    "deque": lambda first, second: deque([first, second]),
    "values of a dict": lambda first, second: {"a": first, "b": second}.values(),
    "keys of a dict": lambda first, second: {first: 1, second: 2}.keys(),
    "set": lambda first, second: {first, second},
    "beside nothing": lambda first, second: [[first, second], [], ({},)],
}


@pytest.mark.parametrize("form", SEVERAL)
@pytest.mark.parametrize("order", [(1, 0), (0, 1)])
def test_f1_calls_and_maps_wait_for_what_any_collection_or_iterator_gives(executor, form, order):
    def program():
        called = follow.submit(7, wait_for=SEVERAL[form](*map(fails_on_one.submit, order)))
        child = follow.map([7], wait_for=SEVERAL[form](*map(fails_on_one.submit, order)))[0]
        wait([called, child])
        return [type(called.state), type(child.state)]

    assert flow(program, executor=executor, history=False)() == [TriggerFailed, TriggerFailed]


@pytest.mark.parametrize("form", [form for form in SEVERAL if form != "beside nothing"])
def test_f1_a_call_in_a_graph_waits_for_what_any_collection_or_iterator_gives(run, form):
    with Flow("waits") as graph:
        called = follow(7, wait_for=SEVERAL[form](fails_on_one(1), fails_on_one(0)))
        mapped_over = follow.map([7], wait_for=SEVERAL[form](*(unmapped(fails_on_one(n)) for n in (1, 0))))
    state = run(graph)
    assert type(state.result[called]) is TriggerFailed
    assert kinds(state.result[mapped_over]) == [TriggerFailed]


@pytest.mark.parametrize("waited", [[], [[]], [[], [()]], [{}], iter(())])
def test_f1_nothing_to_wait_for_is_waited_for(executor, waited):
    def program():
        return follow.submit(7, wait_for=waited).result(), follow.map([7, 8], wait_for=waited).result()

    assert flow(program, executor=executor, history=False)() == (7, [7, 8])


@pytest.mark.parametrize("waited", [[3], [[3]], [[], [{"a": 3}]]])
def test_f1_values_are_nothing_to_wait_for(waited):
    def program():
        for call in (lambda: follow.submit(7, wait_for=waited), lambda: follow.map([7], wait_for=waited)):
            with pytest.raises(TypeError, match=r"^wait_for must hold futures, got "):
                call()

    flow(program, history=False)()


@pytest.mark.parametrize("form", ["list in unmapped", "unmapped alone", "allowed alone"])
def test_f1_an_annotation_around_a_list_that_a_map_waits_for_holds_for_its_members(spelled, form):
    def program():
        waited = [spelled.call(fails_on_one, n) for n in (1, 0)]
        given = {
            "list in unmapped": [unmapped(waited)],
            "unmapped alone": unmapped(waited),
            "allowed alone": allow_failure(unmapped([waited])),
        }[form]
        return {"x": follow.map([7, 8, 9], wait_for=given)}

    assert kinds(spelled.states(program)["x"]) == [Success if "allowed" in form else TriggerFailed] * 3


# ---------------------------------------------------------------------- states that a body returns


@task
def end_in(name):
    made = {
        "failed": Failed("no"),
        "error": Failed("no", ValueError("no")),
        "skipped": Skipped("not today"),
        "success": Success("good", result=[4]),
        "cancelled": Cancelled("stop"),
    }
    return made[name]


@task(skip_on_upstream_skip=False, trigger=triggers.all_finished)
def read(x):
    return x


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("failed", "Failed", "no"),
        ("error", "Failed", "no"),
        ("skipped", "Skipped", "not today"),
        ("success", "Success", "good"),
        ("cancelled", "Cancelled", "stop"),
    ],
)
def test_e10_f15_a_body_ends_in_the_state_that_it_returns(spelled, name, kind, message):
    def program():
        one, more = spelled.call(end_in, name), end_in.map([name, name])
        return {"one": one, "map": more, "read": spelled.call(read, one)}

    found = spelled.states(program)
    states = [found["one"], *found["map"].map_states]
    assert [(type(state).__name__, state.message) for state in states] == [(kind, message)] * 3
    if name == "success":
        assert [state.result for state in states] == [[4]] * 3
        assert found["read"].result == [4]


@task(isolation="process")
def skip_apart():
    return Skipped("apart")


@task(timeout=30)
def skip_in_time():
    return Skipped("in time")


@task
async def skip_later():
    return Skipped("later")


def test_e10_a_returned_state_is_one_however_the_body_runs(spelled):
    bodies = [skip_apart, skip_in_time, skip_later]
    found = spelled.states(lambda: {body.name: spelled.call(body) for body in bodies})
    assert [(type(state), state.message) for state in found.values()] == [
        (Skipped, "apart"),
        (Skipped, "in time"),
        (Skipped, "later"),
    ]


@task(retries=1)
def return_failed_first(n):
    return Failed("once more") if context.task_run_count == 1 else n


@task(retries=2)
def return_retrying_first(n):
    return Retrying("once more") if context.task_run_count == 1 else n


def test_e10_a_returned_failure_is_retried_and_a_returned_retry_is_made(spelled):
    found = spelled.states(lambda: {"f": return_failed_first.map([1, 2]), "r": return_retrying_first.map([1, 2])})
    assert [found[name].result for name in "fr"] == [[1, 2], [1, 2]]


@task(retries=2)
def end_as_refused(how, folder):
    note(folder, f"{how}-{context.task_run_count}")
    if how == "raise":
        raise signals.TRIGGERFAIL("refused")
    return TriggerFailed("refused")


def test_a_body_that_ends_as_its_trigger_had_refused_it_is_not_retried(spelled, tmp_path):
    hows = ["return", "raise"]
    found = spelled.states(lambda: {"map": end_as_refused.map(hows, unmapped(tmp_path / "begun"))})
    assert [type(child) for child in found["map"].map_states] == [TriggerFailed] * 2
    assert sorted(notes(tmp_path / "begun")) == ["raise-1", "return-1"]


@task
def return_running():
    return Running("not yet")


@task
def return_scheduled():
    return Scheduled("not yet")


def test_e10_a_body_must_not_return_an_unfinished_state(spelled):
    found = spelled.states(lambda: {"a": spelled.call(return_running), "b": spelled.call(return_scheduled)})
    for state, name in zip(found.values(), ("Running", "Scheduled"), strict=True):
        assert type(state) is Failed
        assert f"a state in which a task can end, Retrying or Paused, got {name}" in state.message


@task
def return_paused():
    return Paused("ask me")


def test_e10_a_body_that_returns_paused_pauses(run):
    with Flow("paused") as graph:
        asked = return_paused()
    state = run(graph)
    assert (type(state.result[asked]), state.result[asked].message) == (Paused, "ask me")


# ---------------------------------------------------------------------- generator functions


@task
def count_up(n):
    yield from range(n)


@task(retries=1)
def break_off(n):
    yield n
    if context.task_run_count == 1:
        raise ValueError("mid")
    yield n + 1


@task
def break_always(n):
    yield n
    raise ValueError("mid")


@task(isolation="process")
def count_apart(n):
    yield from range(n)


def decorated(function):
    @functools.wraps(function)
    def inner(first, *others, **more):
        return function(first, *others, **more)

    return inner


@task
@decorated
def count_decorated(n):
    yield from range(n)


class Counter(Task):
    def run(self, n):
        yield from range(n)


class Called:
    def __call__(self, n):
        yield from range(n)


def test_e9_items_of_a_generator_function_are_a_list(spelled):
    tasks = [count_up, count_apart, count_decorated, Counter(name="counter"), task(Called(), name="called")]

    def program():
        made = {each.name: spelled.call(each, 3) for each in tasks}
        return {**made, "map": count_up.map([1, 2]), "sum": spelled.call(total, made["count_up"])} | {
            "over": follow.map(made["count_up"])
        }

    found = spelled.states(program)
    assert [found[each.name].result for each in tasks] == [[0, 1, 2]] * 5
    assert found["map"].result == [[0], [0, 1]]
    assert found["sum"].result == 3
    assert found["over"].result == [0, 1, 2]


def test_e9_an_error_in_a_generator_function_fails_its_attempt(spelled):
    def program():
        broken = spelled.call(break_always, 1)
        return {"retried": break_off.map([1, 5]), "broken": broken, "sum": spelled.call(total, broken)}

    found = spelled.states(program)
    assert found["retried"].result == [[1, 2], [5, 6]]
    assert type(found["broken"]) is Failed
    assert repr(found["broken"].result) == "ValueError('mid')"
    assert type(found["sum"]) is TriggerFailed


@task(timeout=0.3)
def yield_for_long(n):
    yield n
    spend(20)


def test_e9_time_limits_hold_in_a_generator_function(spelled):
    assert type(spelled.states(lambda: {"x": spelled.call(yield_for_long, 1)})["x"]) is TimedOut


@task
def return_generator(n):
    return (x for x in range(n))


def test_e9_a_generator_that_is_returned_is_a_value(spelled, in_process):
    found = spelled.states(lambda: {"x": spelled.call(return_generator, 3)})["x"]
    if in_process:
        assert list(found.result) == [0, 1, 2]
    else:
        assert "could not be pickled" in found.message


# ---------------------------------------------------------------------- by position and by name


def with_another_name(function):
    @functools.wraps(function)
    def inner(df, *args, **kw):
        return function(df, *args, **kw)

    return inner


@task
@with_another_name
def size(frame, scale=1):
    return len(frame) * scale


def telling(function):
    @functools.wraps(function)
    def inner(*args, **kw):
        return len(args), sorted(kw), function(*args, **kw)

    return inner


@task
@telling
def tell(x, y=1):
    return x, y


@task
def by_position_only(self, /, y=1):
    return self, y


class Scaled(Task):
    def __init__(self, **options):
        self.by = 3
        super().__init__(**options)

    @telling
    def run(self, x, y=1):
        return x * self.by, y


@functools.singledispatch
def kind_of(x):
    return "object"


@kind_of.register
def _(x: int):
    return "int"


@kind_of.register
def _(x: list):
    return [kind_of(each) for each in x]


def test_e8_arguments_go_as_they_were_given(spelled):
    call = spelled.call

    def program():
        return {
            "size": call(size, "abc"),
            "sizes": size.map(["a", "bc"], unmapped(2)),
            "both": call(tell, 1, 2),
            "one": call(tell, 1, y=2),
            "names": call(tell, x=1),
            "map": tell.map([1, 2], y=unmapped(3)),
            "map names": tell.map(x=[1, 2]),
            "flat": tell.map(flatten(call(give, [[1], [2]]))),
            "read": call(tell, call(give, 5)),
            "self": call(by_position_only, 1),
            "upper": call(task(str.upper, name="upper"), "a"),
            "uppers": task(str.upper, name="uppers").map(["a", "b"]),
            "class": call(Scaled(name="scaled"), 2),
            "partial": call(task(functools.partial(tell.run, y=4), name="part"), 2),
        }

    found = {name: state.result for name, state in spelled.states(program).items()}
    assert found == {
        "size": 3,
        "sizes": [2, 4],
        "both": (2, [], (1, 2)),
        "one": (1, ["y"], (1, 2)),
        "names": (0, ["x"], (1, 1)),
        "map": [(1, ["y"], (1, 3)), (1, ["y"], (2, 3))],
        "map names": [(0, ["x"], (1, 1)), (0, ["x"], (2, 1))],
        "flat": [(1, [], (1, 1)), (1, [], (2, 1))],
        "read": (1, [], (5, 1)),
        "self": (1, 1),
        "upper": "A",
        "uppers": ["A", "B"],
        "class": (2, [], (6, 1)),
        "partial": (1, ["y"], (2, 4)),
    }


class Scale:
    def __init__(self, by):
        self.by = by

    def times(self, x, y=1):
        return self.by * x * y


def test_e8_a_method_of_an_object_and_the_function_of_its_class_are_tasks_beside_each_other(spelled):
    of_object, of_class = task(Scale(2).times, name="of object"), task(Scale.times, name="of class")

    def program():
        return {
            "object": of_object.map([3, 4]),
            "class": of_class.map([Scale(5), Scale(6)], unmapped(3)),
            "call": spelled.call(of_class, Scale(7), 2, 3),
            "names": spelled.call(of_class, self=Scale(7), x=1),
            "object again": spelled.call(of_object, 3, 4),
        }

    found = {name: state.result for name, state in spelled.states(program).items()}
    assert found == {"object": [6, 8], "class": [15, 18], "call": 42, "names": 7, "object again": 24}


def test_e8_singledispatch_chooses_by_the_argument(spelled):
    found = spelled.states(lambda: {"one": spelled.call(task(kind_of), 1), "map": task(kind_of).map([1, "a", [2, ""]])})
    assert [state.result for state in found.values()] == ["int", ["int", "object", ["int", "object"]]]


@functools.lru_cache
def remembered(x):
    return 2 * x


@task
def read_remembered(x):
    return remembered(x)


@pytest.mark.parametrize("body", [task(remembered, name="remembered"), read_remembered], ids=lambda body: body.name)
def test_e12_p8_a_cached_function_of_the_script_is_refused_where_it_cannot_go(spelled, in_process, body):
    def program():
        return {"one": spelled.call(body, 1), "map": body.map([1, 2])}

    if in_process:
        assert [state.result for state in spelled.states(program).values()] == [2, [2, 4]]
        return
    with pytest.raises(FlowDefinitionError, match="cannot be pickled: PicklingError: remembered is a _lru_cache_wrap"):
        spelled.states(program)


def again(function):
    @functools.wraps(function)
    def inner(*args, **kw):
        if context.task_run_count == 1:
            raise ValueError("once more")
        return len(args), function(*args, **kw)

    return inner


@again
def last(x):
    return x


@pytest.mark.parametrize("options", [{}, {"isolation": "process"}, {"timeout": 60}], ids=str)
def test_e8_attempts_of_any_kind_give_arguments_as_they_were_given(spelled, options):
    body = task(last, retries=1, **options)
    found = spelled.states(lambda: {"one": spelled.call(body, 1), "map": body.map([2])})
    assert [state.result for state in found.values()] == [(1, 1), [(1, 2)]]


def test_e8_history_caches_and_names_know_arguments_by_name(spelled, tmp_path):
    def by_name(context, arguments):
        return f"{tmp_path} {arguments['x']} {arguments['y']}"

    store = LocalResult(tmp_path / "results")
    body = tell.copy(name="kept", target="${x}.pkl", task_run_name="tell ${x}", cache_key_fn=by_name)
    found = spelled.states(lambda: {"map": body.map([1, 2], unmapped(5))}, result=store)
    assert found["map"].result == [(2, [], (1, 5)), (2, [], (2, 5))]
    assert [child.context["task_run_name"] for child in found["map"].map_states] == ["tell 1", "tell 2"]
    assert sorted(path.name for path in (tmp_path / "results").rglob("*.pkl")) == ["1.pkl", "2.pkl"]


def test_e8_a_replay_gives_arguments_as_they_were_given(run, tmp_path):
    kept = tmp_path / "history.db"
    with Flow("replayed", result=LocalResult(tmp_path / "results")) as graph:
        tell.map([1, 2], unmapped(5))
    state = run(graph, history=kept)
    assert history.run(state.context["flow_run_id"], store=kept).child("tell", 1).replay().result == (2, [], (2, 5))


def test_e8_in_the_graph_positions_go_where_their_task_goes(run):
    def pipeline(x):
        return tell(x, 7)

    with Flow("other") as other:
        added = tell(1)
    with Flow("parts") as graph:
        piped = apply_map(pipeline, [1, 2])
        old = tell.copy(name="old")(3)
        x, y = product([1, 2], [3])
        grid = tell.map(x, y)
    graph.update(other)
    new = tell.copy(name="new")
    graph.replace(old, new)
    state = run(graph.copy())
    assert state.result[piped].result == [(2, [], (1, 7)), (2, [], (2, 7))]
    assert state.result[grid].result == [(2, [], (1, 3)), (2, [], (2, 3))]
    assert state.result[added].result == (1, [], (1, 1))
    assert state.result[new].result == (1, [], (3, 1))


def test_e8_a_flow_function_is_given_arguments_as_they_were_given(executor):
    @flow(executor=executor, history=False)
    @telling
    def told(x, y=1):
        return x, y

    @flow(executor=executor, history=False)
    def only(x, /, y=1):
        return x, y

    assert told(1) == (1, ["y"], (1, 1))
    assert told(x=1) == (0, ["x", "y"], (1, 1))
    assert only(1) == (1, 1)


# ---------------------------------------------------------------------- what fails after the body


def fail_on_failure(task, old, new):
    if new.is_failed():
        raise RuntimeError("handler")


def no_state_on_failure(task, old, new):
    return 42 if new.is_failed() else None


def fail_in_callback(task, state):
    raise RuntimeError("callback")


def no_delay(attempt):
    return 1 / 0


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"state_handlers": [fail_on_failure]}, RuntimeError, "Unexpected error while calling state handlers"),
        ({"state_handlers": [no_state_on_failure]}, TypeError, "state handler no_state_on_failure returned int"),
        ({"on_failure": fail_in_callback}, RuntimeError, "Unexpected error while calling state handlers"),
        ({"on_failure": fail_in_callback, "retries": 1}, RuntimeError, "Unexpected error while calling state handlers"),
        ({"retries": 1, "retry_delay_seconds": no_delay}, ZeroDivisionError, "retry delay of "),
        ({"on_failure": fail_in_callback, "isolation": "process"}, RuntimeError, "Unexpected error while calling"),
    ],
    ids=["handler", "no state", "on_failure", "on_failure, retries", "delay", "isolated"],
)
def test_e11_what_fails_after_the_body_keeps_its_error(spelled, options, kind, message):
    broken = fails_on_one.copy(**options)
    found = spelled.states(lambda: {"one": spelled.call(broken, 1), "map": broken.map([1, 2])})
    for state in (found["one"], found["map"].map_states[0]):
        assert type(state) is Failed
        assert state.message.startswith(message)
        assert state.message.endswith("; after ValueError('one')")
        assert type(state.result) is kind
        assert repr(state.result.__context__) == "ValueError('one')"
    assert type(found["map"].map_states[1]) is Success


def test_e11_what_fails_after_a_flow_keeps_its_error(executor):
    @flow(executor=executor, history=False, on_failure=fail_in_callback)
    def broken():
        raise ValueError("one")

    state = broken.run()
    assert state.message.endswith("; after ValueError('one')")
    assert repr(state.result.__context__) == "ValueError('one')"


# ---------------------------------------------------------------------- flatten(flatten(...))


@task
def lists_of_lists(n):
    if n == 9:
        raise ValueError("nine")
    return [[n] * k for k in range(n + 1)] if n else [0, [0], [[0]]]


def test_f10_two_levels_of_flatten_take_two_levels_away(spelled):
    def program():
        nested = lists_of_lists.map([1, 2])
        one = spelled.call(give, [[[1], [2, 3]], [[]], 4])
        return {
            "map": follow.map(flatten(flatten(nested))),
            "scalars": follow.map(flatten(flatten(lists_of_lists.map([0])))),
            "one": follow.map(flatten(flatten(one))),
            "constant": follow.map(flatten(flatten([[[1], [2]], [[3]]]))),
            "unmapped": give.map(unmapped(flatten(flatten(nested))), upstream_tasks=[mapped(give.map([1]))]),
            "call": spelled.call(give, flatten(flatten(nested))),
            "three": follow.map(flatten(flatten(flatten(spelled.call(give, [[[[1], [2]]], [[[3]]]]))))),
        }

    found = {name: state.result for name, state in spelled.states(program).items()}
    assert found == {
        "map": [1, 2, 2, 2],
        "scalars": [0, 0, [0]],
        "one": [1, 2, 3, 4],
        "constant": [1, 2, 3],
        "unmapped": [[1, 2, 2, 2]],
        "call": [1, 2, 2, 2],
        "three": [1, 2, 3],
    }


@task
def nested_later(folder, n):
    until(lambda: n == 0 or (folder / "0").exists())
    return [[n]]


@task
def note_down(folder, n):
    (folder / str(n)).touch()
    return n


def test_f10_elements_of_two_levels_start_before_all_lists_are_there(spelled, tmp_path):
    def program():
        nested = nested_later.map(unmapped(tmp_path), [0, 1])
        return {"x": note_down.map(unmapped(tmp_path), flatten(flatten(nested)))}

    assert spelled.states(program)["x"].result == [0, 1]


def test_f10_failures_go_through_both_levels(spelled):
    def program():
        nested = lists_of_lists.map([1, 9])
        return {
            "map": follow.map(flatten(flatten(nested))),
            "allowed": give.map(allow_failure(flatten(flatten(nested)))),
        }

    found = spelled.states(program)
    assert kinds(found["map"]) == [Success, TriggerFailed]
    assert kinds(found["allowed"]) == [Success, Success]
    assert repr(found["allowed"].result[1]) == "ValueError('nine')"


def test_f10_two_levels_in_apply_map(run):
    with Flow("nested") as graph:
        applied = apply_map(lambda x: follow(x), flatten(flatten(lists_of_lists.map([1, 2]))))
    assert run(graph).result[applied].result == [1, 2, 2, 2]


# ---------------------------------------------------------------------- smaller things


@task
def length(xs):
    return len(xs)


def test_e13_a_list_that_holds_itself_is_an_argument_like_others(spelled):
    endless = [1]
    endless.append(endless)
    assert spelled.states(lambda: {"x": spelled.call(length, endless)})["x"].result == 2


def test_e13_a_list_that_holds_itself_and_a_future_is_refused(executor):
    def program():
        endless = [give.submit(1)]
        endless.append(endless)
        length.submit(endless)

    with pytest.raises(TypeError, match="a list that holds itself, and a future, cannot be passed"):
        flow(program, executor=executor, history=False)()


@task
def hold_on(folder, n):
    if n == 1:
        raise ValueError("one")
    until(lambda: n == 0 or (folder / "go").exists())
    return n


def test_e13_a_map_raises_its_first_failure_before_the_others_have_ended(executor, tmp_path, request):
    if request.node.callspec.params["executor"] in ("local", "synchronous"):
        pytest.skip("one body at a time")

    def program():
        children = hold_on.map(unmapped(tmp_path), [0, 1, 2])
        try:
            children.result()
        except ValueError:
            done = children.done()
            (tmp_path / "go").touch()
            return done

    assert flow(program, executor=executor, history=False)() is False


def test_e13_waiting_for_a_failure_looks_at_no_child_twice(monkeypatch):
    """One that waits for the first child was woken by each of the others, and looked at them all each time."""
    looked_at_all, ended = [], []

    @task
    def first_ends_last(n):
        until(lambda: n > 0 or len(ended) == 39)
        ended.append(n)
        if n == 1:
            raise ValueError("one")

    def program():
        children = first_ends_last.map(range(40))
        known = futures.plain_results

        def noted(states):
            looked_at_all.append(children.done())
            return known(states)

        monkeypatch.setattr(futures, "plain_results", noted)
        with pytest.raises(ValueError, match="one"):
            children.result()
        return len(children)

    assert flow(program, executor=LocalDaskExecutor(num_workers=2), history=False)() == 40
    assert looked_at_all in ([], [True])


def test_e13_the_task_of_an_index_is_named_as_one_writes_it():
    with Flow("names"):
        items = give([1, 2, 3])
        names = [items[key].name for key in (0, slice(1, 3), slice(None), slice(None, None, -1), "a", items)]
    assert names == ["give[0]", "give[1:3]", "give[:]", "give[::-1]", "give['a']", "give[give]"]


def test_e1_calls_without_inputs_are_computed_once_and_found_by_the_next_run(spelled, tmp_path):
    path = tmp_path / "notes"

    @task(cache_for=60, name=f"no inputs {tmp_path}")
    def clock():
        note(path, "ran")
        return 5

    for _ in range(2):
        found = spelled.states(lambda: {"a": spelled.call(clock), "b": spelled.call(clock)})
        assert [found[name].result for name in "ab"] == [5, 5]
        assert notes(path) == ["ran"]
