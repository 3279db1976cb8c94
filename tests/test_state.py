import copy
import gc
import pickle
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise, product

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefectish.engine import signals
from prefectish.engine.capture import capture
from prefectish.engine.context import context
from prefectish.engine.deferred import Deferred
from prefectish.engine.state import (
    Cached,
    Cancelled,
    Cancelling,
    Crashed,
    Failed,
    Finished,
    Looped,
    Mapped,
    Paused,
    Pending,
    Queued,
    Resume,
    Retrying,
    Running,
    Scheduled,
    Skipped,
    State,
    Submitted,
    Success,
    TimedOut,
    TriggerFailed,
    ValidationFailed,
)
from prefectish.engine.transitions import TRANSITIONS, allowed
from prefectish.errors import RemoteError

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

PARENT = {
    Pending: State,
    Scheduled: Pending,
    Retrying: Scheduled,
    Paused: Scheduled,
    Resume: Scheduled,
    Queued: Scheduled,
    Submitted: State,
    Running: State,
    Cancelling: Running,
    Finished: State,
    Success: Finished,
    Cached: Success,
    Skipped: Success,
    Mapped: Success,
    Looped: Finished,
    Cancelled: Finished,
    Failed: Finished,
    TriggerFailed: Failed,
    TimedOut: Failed,
    ValidationFailed: Failed,
    Crashed: Failed,
}
CLASSES = [State, *PARENT]

TRUE_QUESTIONS = {
    State: "",
    Pending: "pending",
    Scheduled: "pending scheduled",
    Retrying: "pending scheduled retrying",
    Paused: "pending scheduled paused",
    Resume: "pending scheduled",
    Queued: "pending scheduled queued",
    Submitted: "submitted",
    Running: "running",
    Cancelling: "running cancelling",
    Finished: "finished final",
    Success: "finished successful completed final",
    Cached: "finished successful completed cached final",
    Skipped: "finished successful completed skipped final",
    Mapped: "finished successful completed mapped final",
    Looped: "finished looped final",
    Cancelled: "finished final cancelled",
    Failed: "finished failed final",
    TriggerFailed: "finished failed final",
    TimedOut: "finished failed final",
    ValidationFailed: "finished failed final",
    Crashed: "finished failed final crashed",
}

# ---------------------------------------------------------------------- any state

scalars = st.none() | st.integers() | st.text(max_size=3) | st.floats(allow_nan=False)
results = scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.text(max_size=2), scalars, max_size=2)
names = st.dictionaries(st.text(max_size=3), results, max_size=2)
times = st.none() | st.datetimes(timezones=st.just(UTC))
OWN_KEYWORDS = {
    Scheduled: {"start_time": times},
    Retrying: {"start_time": times, "run_count": st.integers(1, 9)},
    Paused: {"start_time": times},
    Resume: {"start_time": times},
    Queued: {"start_time": times, "state": st.builds(Pending)},
    Submitted: {"state": st.builds(Pending)},
    Looped: {"loop_count": st.integers(1, 9)},
    Cached: {"hashed_inputs": results, "cached_parameters": names, "cached_result_expiration": times},
    Mapped: {"map_states": st.lists(st.none() | st.builds(Success, result=scalars)), "n_map_states": st.integers(0, 9)},
    Failed: {"traceback": st.none() | st.text()},
    Crashed: {"cause": st.none() | st.text(max_size=3), "evidence": st.none() | names},
}


def states_of(cls):
    common = {"message": scalars, "result": results, "context": names, "cached_inputs": names}
    return st.builds(cls, **common, **OWN_KEYWORDS.get(cls, {}))


any_state = st.sampled_from(CLASSES).flatmap(states_of)


class Late(Deferred):
    """Counts how often it is fetched."""

    def __init__(self, value):
        self.value = value
        self.fetched = 0

    def get(self):
        self.fetched += 1
        return self.value


# ---------------------------------------------------------------------- the tree


def ours(classes):
    """Leave out the classes that tests derive."""
    return [cls for cls in classes if cls.__module__ == State.__module__]


def test_the_tree_is_as_designed():
    assert {cls: cls.__base__ for cls in PARENT} == PARENT
    assert set(ours(State.children(include_self=True))) == set(CLASSES)


@pytest.mark.parametrize("cls", CLASSES)
def test_exactly_the_listed_questions_are_true(cls):
    state = cls()
    questions = [name for name in dir(state) if name.startswith("is_")]
    yes = {name.removeprefix("is_") for name in questions if getattr(state, name)()}
    assert yes == set(TRUE_QUESTIONS[cls].split())


def test_there_are_no_further_questions():
    questions = {name.removeprefix("is_") for name in dir(State) if name.startswith("is_")}
    assert questions == set(" ".join(TRUE_QUESTIONS.values()).split())


def test_children_walks_down():
    assert ours(Failed.children()) == [TriggerFailed, TimedOut, ValidationFailed, Crashed]
    assert Failed.children(include_self=True)[0] is Failed
    assert Scheduled.children(names_only=True) == ["Retrying", "Paused", "Resume", "Queued"]
    assert Skipped.children() == []


def test_parents_walks_up():
    assert Retrying.parents() == [Scheduled, Pending, State]
    assert Retrying.parents(include_self=True, names_only=True) == ["Retrying", "Scheduled", "Pending", "State"]
    assert State.parents() == []


def test_private_classes_are_left_out():
    class _Hidden(Cancelling):
        __slots__ = ()

    class Shown(_Hidden):
        __slots__ = ()

    assert Cancelling.children(names_only=True) == ["Shown"]
    assert "_Hidden" not in Shown.parents(names_only=True)
    del _Hidden, Shown
    gc.collect()  # a class is part of a cycle; the tree lets go of it then
    assert Cancelling.children() == []


def test_colors_are_distinct_hex():
    colors = [cls.color for cls in CLASSES]
    assert len(set(colors)) == len(colors)
    assert all(len(color) == 7 and color[0] == "#" and int(color[1:], 16) >= 0 for color in colors)


# ---------------------------------------------------------------------- making one


@pytest.mark.parametrize("cls", CLASSES)
def test_a_bare_state_is_empty(cls):
    state = cls()
    assert state.message is None
    assert state.result == ([] if cls is Mapped else None)
    assert state.context == {}
    assert state.cached_inputs == {}


@pytest.mark.parametrize("cls", CLASSES)
def test_message_then_result_are_positional(cls):
    error = ValueError("a message may be anything")
    state = cls(error, {})
    assert state.message is error
    assert state.result == {}


@pytest.mark.parametrize("falsy", [0, "", {}, [], False], ids=repr)
def test_falsy_results_are_kept(falsy):
    assert Success(result=falsy).result is falsy
    assert Mapped(result=falsy).result is falsy


@pytest.mark.parametrize("cls", CLASSES)
def test_unknown_keyword_is_refused(cls):
    with pytest.raises(TypeError, match="no_such"):
        cls(no_such=1)


def test_context_and_cached_inputs_are_copies():
    given = {"a": 1}
    state = State(context=given, cached_inputs=given)
    given["a"] = 2
    assert state.context == state.cached_inputs == {"a": 1}


def test_empty_context_is_not_shared():
    one, other = Success(), Success()
    one.context["a"] = 1
    assert other.context == {}


@pytest.mark.parametrize("cls", CLASSES)
def test_tags_of_the_run_are_noted(cls):
    with context(task_tags={"a", "b"}):
        assert sorted(cls().context["tags"]) == ["a", "b"]
        assert cls(context={"tags": ["mine"]}).context == {"tags": ["mine"]}
        assert sorted(cls(context={"x": 1}).context) == ["tags", "x"]
    with context(task_tags=frozenset()):
        assert cls().context == {}


@pytest.mark.parametrize("cls", [Scheduled, Retrying, Paused, Resume, Queued])
def test_scheduled_kinds_note_the_run_count(cls):
    with context(task_run_count=3):
        assert cls().context == {"task_run_count": 3}
        assert cls(context={"task_run_count": 7}).context == {"task_run_count": 7}


def test_other_kinds_do_not_note_the_run_count():
    with context(task_run_count=3):
        assert Running().context == Pending().context == {}


@pytest.mark.parametrize("cls", [Scheduled, Retrying, Resume, Queued])
def test_start_time_is_now_by_default(cls):
    before = datetime.now(UTC)
    start_time = cls().start_time
    assert before <= start_time <= datetime.now(UTC)
    assert start_time.tzinfo is UTC


def test_paused_has_no_start_time_by_default():
    assert Paused().start_time is None
    assert Paused(start_time=NOON).start_time == NOON


@pytest.mark.parametrize("cls", [Scheduled, Retrying, Paused, Resume, Queued])
def test_naive_start_time_is_refused(cls):
    """T5."""
    with pytest.raises(ValueError, match=r"start_time 2026-01-01T12:00:00 has no time zone; write .*replace"):
        cls(start_time=NOON.replace(tzinfo=None))


def test_start_time_of_the_wrong_type_is_refused():
    with pytest.raises(TypeError, match="Scheduled: start_time must be a datetime, got 5"):
        Scheduled(start_time=5)


@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_start_time_may_be_any_year(year):
    """T6."""
    zone = timezone(timedelta(hours=-5))
    assert Scheduled(start_time=NOON.replace(year=year, tzinfo=zone)).start_time.year == year


def test_run_count_is_given_or_read_or_one():
    assert Retrying().run_count == 1
    with context(task_run_count=4):
        assert Retrying().run_count == 4
        assert Retrying(run_count=2).run_count == 2


def test_loop_count_is_given_or_read_or_one():
    assert Looped().loop_count == 1
    with context(task_loop_count=4):
        assert Looped().loop_count == 4
        assert Looped(loop_count=2).loop_count == 2


@pytest.mark.parametrize("outer", [Queued, Submitted])
@pytest.mark.parametrize("inner", [Queued, Submitted])
def test_wrapping_states_do_not_nest(outer, inner):
    ordinary = Pending("the one")
    assert outer(state=inner(state=ordinary)).state is ordinary
    assert outer().state is None


# ---------------------------------------------------------------------- mapped


def test_mapped_result_is_the_list_of_the_results_of_the_children():
    error = ValueError("boom")
    state = Mapped(map_states=[Success(result=1), None, Failed(result=error), Skipped()])
    assert state.result == [1, None, error, None]


def test_mapped_result_may_be_given():
    assert Mapped(result=[7], map_states=[Success(result=1)]).result == [7]
    assert Mapped(result=Late([7]), map_states=[Success(result=1)]).result == [7]


def test_mapped_results_may_be_deferred():
    assert Mapped(map_states=[Success(result=Late(1)), Success(result=2)]).result == [1, 2]


@pytest.mark.parametrize(("given", "count"), [(None, 2), (0, 2), (2, 2), (5, 5)])
def test_mapped_count_wins_unless_it_is_zero(given, count):
    state = Mapped(map_states=[Success(result=1), Success(result=2)], n_map_states=given)
    assert state.n_map_states == count
    assert state.result == [1, 2] + [None] * (count - 2)


def test_mapped_may_know_the_count_only():
    state = Mapped(n_map_states=3)
    assert state.map_states == []
    assert state.n_map_states == 3
    assert state.result == [None] * 3


# ---------------------------------------------------------------------- results


def test_deferred_result_is_fetched_when_read():
    late = Late(5)
    state = Success("ok", late)
    assert late.fetched == 0
    assert state._raw_result is late
    assert state.result == 5
    assert late.fetched == 1


def test_deferred_must_say_how():
    with pytest.raises(NotImplementedError):
        Deferred().get()


# ---------------------------------------------------------------------- frozen


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("name", ["message", "result", "start_time", "anything"])
def test_a_state_is_frozen(cls, name):
    state = cls("before", 1)
    with pytest.raises(AttributeError, match=rf"{cls.__name__} is frozen; write state.replace\({name}="):
        setattr(state, name, "after")
    with pytest.raises(AttributeError, match=f"{cls.__name__} is frozen"):
        delattr(state, name)
    assert (state.message, state.result) == ("before", 1)


def test_a_state_has_no_dict():
    assert not any(hasattr(cls(), "__dict__") for cls in CLASSES)


@given(any_state, results)
def test_replace_changes_one_thing(state, result):
    changed = state.replace(result=result)
    assert type(changed) is type(state)
    assert changed._raw_result == result
    assert changed.message == state.message
    assert changed.context == state.context
    assert changed.replace(result=state._raw_result) == state


def test_replace_knows_the_keywords_of_the_class():
    state = Retrying("again", start_time=NOON, run_count=2)
    assert state.replace(run_count=3) == Retrying(start_time=NOON, run_count=3)
    assert Mapped(n_map_states=3).replace(map_states=[None]).n_map_states == 3
    assert Failed(traceback="text").replace(message="m").traceback == "text"
    assert Cached(hashed_inputs="h").replace(cached_parameters={}).hashed_inputs == "h"


def test_replace_refuses_unknown_keywords():
    with pytest.raises(TypeError, match="start_time"):
        Success().replace(start_time=NOON)


def test_a_copy_is_the_state_itself():
    state = Success("ok", [1])
    assert copy.copy(state) is state


# ---------------------------------------------------------------------- repr


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (Scheduled(), "Scheduled()"),
        (Pending(), "Pending()"),
        (Running("Running flow."), 'Running("Running flow.")'),
        (Running("Starting task run."), 'Running("Starting task run.")'),
        (Success("All reference tasks succeeded."), 'Success("All reference tasks succeeded.")'),
        (Success("Task run succeeded.", 5), 'Success("Task run succeeded.")'),
        (Failed(""), "Failed()"),
        (Failed(ValueError("x")), 'Failed("x")'),
    ],
    ids=str,
)
def test_repr_shows_class_and_message(state, text):
    assert repr(state) == str(state) == f"{state}" == text


# ---------------------------------------------------------------------- equality


@given(any_state)
def test_equality_ignores_message_and_context(state):
    other = state.replace(message="other", context={"other": 1})
    assert state == other
    assert other == state
    assert hash(state) == hash(other)


@given(any_state, any_state)
def test_equal_states_are_of_one_class_and_hash_equal(one, other):
    assert (one == other) is (other == one)
    assert (one != other) is not (one == other)
    if one == other:
        assert type(one) is type(other)
        assert hash(one) == hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Success(), Finished()),
        (Success(), Cached()),
        (Success(result=1), Success(result=2)),
        (Success(cached_inputs={"x": 1}), Success()),
        (Scheduled(start_time=NOON), Scheduled(start_time=NOON + timedelta(seconds=1))),
        (Retrying(start_time=NOON, run_count=1), Retrying(start_time=NOON, run_count=2)),
        (Looped(loop_count=1), Looped(loop_count=2)),
        (Cached(hashed_inputs="a"), Cached(hashed_inputs="b")),
        (Cached(cached_parameters={}), Cached(cached_parameters={"a": 1})),
        (Cached(cached_result_expiration=NOON), Cached()),
        (Mapped(n_map_states=2), Mapped(n_map_states=3)),
        (Mapped(map_states=[Success()]), Mapped(map_states=[Failed()])),
        (Submitted(state=Pending()), Submitted(state=Running())),
        (Queued(state=Pending(), start_time=NOON), Queued(state=Running(), start_time=NOON)),
        (Crashed(cause="killed-worker"), Crashed(cause="no-workers")),
        (Crashed(evidence={"deaths": 4}), Crashed()),
        (Success(), "Success()"),
        (Success(), None),
    ],
    ids=str,
)
def test_states_differ_by_class_result_and_public_attributes(one, other):
    assert one != other
    assert other != one


def test_traceback_is_not_compared():
    assert Failed(traceback="a") == Failed(traceback="b")


def test_deferred_result_equals_the_value():
    assert Success(result=Late(5)) == Success(result=5)
    assert hash(Success(result=Late(5))) == hash(Success(result=5))


class Array:
    """Answers a comparison item by item, as an array does."""

    def __eq__(self, other):
        return self

    def __bool__(self):
        raise ValueError("the truth value of an array is ambiguous")

    __hash__ = None


def test_result_without_a_plain_comparison_equals_only_itself():
    array = Array()
    assert Success(result=array) == Success("again", array)
    assert Success(result=array) != Success(result=Array())
    assert hash(Success(result=array)) == hash(Success(result=[]))


def test_equal_states_are_one_in_a_set():
    assert len({Success("a", 1), Success("b", 1), Failed("c", 1)}) == 2


# ---------------------------------------------------------------------- exit codes


@pytest.mark.parametrize(
    ("cls", "code"),
    [
        (Success, 0),
        (Cached, 0),
        (Skipped, 0),
        (Mapped, 0),
        (Failed, 1),
        (TriggerFailed, 1),
        (TimedOut, 1),
        (ValidationFailed, 1),
        (Crashed, 3),
        (Running, 5),
        (Cancelling, 5),
        (Pending, 5),
        (Scheduled, 5),
        (Paused, 5),
        (Submitted, 5),
        (Cancelled, 6),
    ],
)
def test_exit_code_follows_the_class(cls, code):
    assert cls().exit_code == code


@pytest.mark.parametrize("code", [0, 3, 130, 143])
def test_exit_code_in_the_context_wins(code):
    assert Failed(context={"exit_code": code}).exit_code == code


# ---------------------------------------------------------------------- tracebacks


def fail_in_two_steps():
    try:
        raise KeyError("first")
    except KeyError as first:
        raise ValueError("second") from first


def test_traceback_is_formatted_from_the_result():
    text = Failed(result=capture(fail_in_two_steps).exception).traceback
    assert text.startswith("Traceback (most recent call last):")
    assert "KeyError: 'first'" in text
    assert "direct cause" in text
    assert text.rstrip().endswith("ValueError: second")


@pytest.mark.parametrize("result", [None, "text", ValueError("never raised")], ids=repr)
def test_traceback_is_none_if_there_never_was_one(result):
    assert Failed(result=result).traceback is None


def test_traceback_given_wins():
    assert Failed(result=capture(fail_in_two_steps).exception, traceback="given").traceback == "given"


def test_traceback_of_a_remote_error_is_its_own():
    assert Failed(result=RemoteError("Oops", "it broke", "there")).traceback == "there"


def test_traceback_is_cut():
    """U7."""

    def fail():
        raise ValueError("z" * 50_000)

    text = Failed(result=capture(fail).exception).traceback
    assert 10_000 < len(text) < 10_100
    assert text.endswith("characters)")


# ---------------------------------------------------------------------- pickling


class TwoArguments(Exception):
    def __init__(self, code, place):
        super().__init__(f"{code} at {place}")


class Locked(Exception):
    def __init__(self, message):
        super().__init__(message)
        self.lock = threading.Lock()


class RefusesToPickle(Exception):
    def __reduce__(self):
        raise RuntimeError("not me")


def explode(*_):
    raise RuntimeError("cannot be loaded")


class RefusesToLoad(Exception):
    def __reduce__(self):
        return explode, self.args


class LoadsAsText(Exception):
    def __reduce__(self):
        return str, self.args


@given(any_state)
def test_every_state_survives_a_pickle(state):
    copied = pickle.loads(pickle.dumps(state))
    assert copied == state
    assert copied.message == state.message
    assert copied.context == state.context
    assert repr(copied) == repr(state)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_survives_every_protocol(cls, protocol):
    state = cls("m", [1], context={"a": 1}, cached_inputs={"b": 2})
    assert pickle.loads(pickle.dumps(state, protocol)) == state


def test_pickling_does_not_ask_the_context():
    state = Scheduled(start_time=NOON)
    with context(task_tags={"a"}, task_run_count=3):
        assert pickle.loads(pickle.dumps(state)).context == {}


def test_subclass_with_attributes_of_its_own_survives_a_pickle():
    class Tidied(Success):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.__dict__["files"] = 3

    copied = pickle.loads(cloudpickle.dumps(Tidied("ok", 1)))
    assert (copied.message, copied.result, copied.files) == ("ok", 1, 3)


def test_pickled_exception_is_the_same_exception():
    copied = pickle.loads(pickle.dumps(Failed("m", ValueError("boom", 2))))
    assert type(copied.result) is ValueError
    assert copied.result.args == ("boom", 2)


def test_pickled_failure_keeps_the_text_of_its_traceback():
    state = Failed("m", capture(fail_in_two_steps).exception)
    copied = pickle.loads(pickle.dumps(state))
    assert copied.result.__traceback__ is None
    assert copied.traceback == state.traceback
    assert "KeyError: 'first'" in pickle.loads(pickle.dumps(copied)).traceback


@pytest.mark.parametrize(
    "error",
    [
        TwoArguments(7, "sea"),
        Locked("has a lock"),
        RefusesToPickle("never"),
        RefusesToLoad("later"),
        LoadsAsText("text"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("cls", [Failed, Crashed, Skipped])
def test_exception_that_does_not_survive_is_replaced_in_the_copy(cls, error):
    """P7."""

    def fail():
        raise error from KeyError("the cause")

    state = cls("m", capture(fail).exception)
    copied = pickle.loads(pickle.dumps(state))
    assert state.result is error
    assert type(copied) is cls
    assert type(copied.result) is RemoteError
    assert copied.result.type_name == type(error).__name__
    assert copied.result.message == str(error)
    if cls is not Skipped:
        assert "KeyError: 'the cause'" in copied.traceback
        assert copied.result.traceback == copied.traceback


def test_exception_of_a_local_class_survives():
    class Mine(Exception):
        pass

    assert type(pickle.loads(pickle.dumps(Failed(result=Mine("x")))).result) is Mine


def test_exception_as_message_survives():
    assert str(pickle.loads(pickle.dumps(Failed(Locked("has a lock")))).message) == "Locked: has a lock"


def test_other_result_that_cannot_be_pickled_lets_the_error_out():
    with pytest.raises(TypeError, match="lock"):
        pickle.dumps(Success(result=threading.Lock()))


def test_signal_as_result_is_pickled_as_it_is():
    signal = signals.FAIL("a equaled b!")
    signal.flag = True
    copied = pickle.loads(pickle.dumps(signal.state))
    assert type(copied.result) is signals.FAIL
    assert copied.result.flag is True


# ---------------------------------------------------------------------- transitions

ROUTES = [
    [Pending, Running, Success],
    [Pending, Running, Failed],
    [Pending, Running, Failed, Retrying, Running, Failed, Retrying, Running, Success],
    [Pending, Running, TimedOut, Retrying, Running, Success],
    [Pending, Running, ValidationFailed],
    [Pending, Running, Cached],
    [Pending, Running, Success, Cached],
    [Pending, Running, Retrying, Running, Skipped],
    [Pending, Running, Looped, Running, Looped, Running, Success],
    [Pending, Running, Looped, Running, Failed, Retrying, Running, Looped, Running, Success],
    [Pending, TriggerFailed],
    [Pending, Skipped],
    [Pending, Mapped],
    [Pending, Cached],
    [Pending, Paused, Resume, Running, Success],
    [Pending, Running, Paused, Running, Success],
    [Pending, Queued, Running, Success],
    [Pending, Submitted, Running, Success],
    [Pending, Running, Pending, Running, Success],
    [Pending, Running, Crashed],
    [Pending, Crashed, Retrying, Running, Crashed],
    [Pending, Cancelled],
    [Retrying, Cancelled],
    [Running, Cancelling, Cancelled],
    [Scheduled, Running, Success],
]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: "-".join(cls.__name__ for cls in route))
def test_routes_of_the_engine_are_allowed(route):
    assert all(allowed(old, new) for old, new in pairwise(route))
    assert all(allowed(old(), new()) for old, new in pairwise(route))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (TriggerFailed, Retrying),
        (Success, Failed),
        (Success, Running),
        (Skipped, Running),
        (Cancelled, Running),
        (Mapped, Running),
        (Failed, Success),
        (Failed, Running),
        (Cancelling, Running),
        (Looped, Success),
        (Pending, Looped),
        (Pending, Cancelling),
        (Running, Running),
        (Running, State),
        (Running, Finished),
    ],
)
def test_routes_that_make_no_sense_are_not_allowed(old, new):
    assert not allowed(old, new)


def test_the_table_has_every_class():
    assert set(TRANSITIONS) == set(CLASSES)
    assert all(successors <= set(CLASSES) for successors in TRANSITIONS.values())


def test_allowed_is_the_table():
    for old, new in product(CLASSES, repeat=2):
        assert allowed(old, new) is allowed(old(), new()) is (new in TRANSITIONS[old])


def test_a_class_outside_the_table_counts_as_its_parent():
    class Rusty(Failed):
        __slots__ = ()

    assert allowed(Running, Rusty)
    assert allowed(Rusty(), Retrying())
    assert not allowed(Rusty, Success)


def reachable(start):
    found, todo = {start}, [start]
    while todo:
        fresh = TRANSITIONS[todo.pop()] - found
        found |= fresh
        todo.extend(fresh)
    return found


@pytest.mark.parametrize("start", CLASSES)
def test_what_has_not_ended_can_end(start):
    ends = {cls for cls in reachable(start) if issubclass(cls, Finished)}
    assert ends


def test_every_class_but_the_abstract_ones_is_reachable_from_pending():
    assert reachable(Pending) == set(CLASSES) - {State, Finished}


@given(st.data())
def test_every_walk_stays_sane(data):
    """A success is never undone, and the body never runs twice without something between."""
    walk = [Pending]
    while len(walk) < 30 and (successors := sorted(TRANSITIONS[walk[-1]], key=lambda cls: cls.__name__)):
        walk.append(data.draw(st.sampled_from(successors)))
    for old, new in pairwise(walk):
        assert allowed(old(), new())
        if issubclass(old, Success) and old is not Cached:
            assert issubclass(new, Success)
        if issubclass(old, Failed):
            assert new in {Retrying, Failed}
        if new is Looped:
            assert old is Running
        assert not (old is Running and new is Running)


# ---------------------------------------------------------------------- import


def test_states_and_signals_import_little():
    program = (
        "import sys; before = set(sys.modules); import prefectish.engine.signals, prefectish.triggers;"
        "import prefectish.engine.handlers;"
        "print(*sorted((set(sys.modules) - before) & {'inspect', 'asyncio', 'dataclasses', 'concurrent.futures',"
        "'cloudpickle', 'pickle', 'importlib.metadata', 'dask', 'distributed'}))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == []
