"""The contract of every executor, of lists with results inside, in both spellings: each member counts by itself."""

from __future__ import annotations

import pytest

from prefectish import allow_failure, flatten, mapped, task, unmapped
from prefectish.engine import signals
from prefectish.engine.state import Mapped, Skipped, State, Success, TriggerFailed


@task
def give(value):
    return value


@task
def fail():
    raise ValueError("no")


@task
def skip():
    raise signals.SKIP("not today")


@task
def fail_on_one(n):
    if n == 1:
        raise ValueError("one")
    return n


@task
def told(value, more=None):
    return _told(value)


def _told(value):
    return [_told(each) for each in value] if isinstance(value, list | tuple) else str(value)


def kinds(state: State) -> list[type[State]]:
    """Return the classes of the states of a map's children."""
    assert type(state) is Mapped, state
    return [type(child) for child in state.map_states]


def test_a_failed_or_skipped_member_fails_or_skips_its_own_child(spelled):
    def program():
        bad, gone, some = spelled.call(fail), spelled.call(skip), fail_on_one.map([0, 1])
        return {
            "list": told.map([bad, 7, gone]),
            "tuple": told.map((some, spelled.call(give, 8))),
            "inner": told.map([[bad, 1], [gone], [spelled.call(give, 9)], 2]),
        }

    found = spelled.states(program)
    assert kinds(found["list"]) == [TriggerFailed, Success, Skipped]
    assert kinds(found["tuple"]) == [TriggerFailed, Success]
    assert kinds(found["inner"]) == [TriggerFailed, Skipped, Success, Success]
    assert [found[name].map_states[i].result for name, i in (("list", 1), ("tuple", 1), ("inner", 2))] == [
        "7",
        "8",
        ["9"],
    ]


def test_failures_that_are_allowed_are_in_their_places_in_a_list(spelled):
    def program():
        bad, some = spelled.call(fail), fail_on_one.map([0, 1])
        return {
            "call": spelled.call(told, [bad, [some]], allow_failure=True),
            "annotated": spelled.call(told, allow_failure([bad, (some, 3)])),
            "member": spelled.call(told, [allow_failure(bad), allow_failure([some])]),
            "map": told.map([bad, [some], 5], allow_failure=True),
            "map of members": told.map([allow_failure(bad), 5]),
            "beside": told.map([1, 2], unmapped(allow_failure([bad]))),
        }

    found = {name: state.result for name, state in spelled.states(program).items()}
    assert found == {
        "call": ["no", [["0", "one"]]],
        "annotated": ["no", [["0", "one"], "3"]],
        "member": ["no", [["0", "one"]]],
        "map": ["no", [["0", "one"]], "5"],
        "map of members": ["no", "5"],
        "beside": ["1", "2"],
    }


def test_e13_flatten_counts_its_levels_inside_of_lists_too(spelled):
    def program():
        deep = spelled.call(give, [[[1], [2]], [[3]]])
        return {
            "once": spelled.call(told, [flatten(deep)]),
            "twice": spelled.call(told, {"x": [flatten(flatten(deep))]}["x"]),
            "list": spelled.call(told, flatten([deep, [4]])),
            "map": told.map([flatten(flatten(deep)), 5]),
        }

    found = {name: state.result for name, state in spelled.states(program).items()}
    assert found == {
        "once": [[["1"], ["2"], ["3"]]],
        "twice": [["1", "2", "3"]],
        "list": [[["1"], ["2"]], [["3"]], "4"],
        "map": [["1", "2", "3"], "5"],
    }


def test_a_call_with_mapped_is_a_map_over_that_argument_alone(spelled):
    def program():
        items = spelled.call(give, [1, 2])
        return {
            "constant": spelled.call(told, mapped([3, 4]), [5, 6, 7]),
            "result": spelled.call(told, value=mapped(items)),
            "levels": spelled.call(told, mapped(flatten(flatten([[[1], [2]], [[3]]]))), flatten([[1]])),
        }

    found = {name: state.result for name, state in spelled.states(program).items()}
    assert found == {"constant": ["3", "4"], "result": ["1", "2"], "levels": ["1", "2", "3"]}


@pytest.mark.parametrize("allowed", [False, True])
def test_a_wait_for_a_list_allows_failures_in_it(spelled, allowed):
    def program():
        bad = spelled.call(fail)
        waited = allow_failure([bad]) if allowed else [bad]
        return {"one": spelled.call(told, 1, wait_for=[waited]), "map": told.map([1], wait_for=[unmapped(waited)])}

    found = spelled.states(program)
    assert type(found["one"]) is (Success if allowed else TriggerFailed)
    assert kinds(found["map"]) == [Success if allowed else TriggerFailed]


@task
def skip_odd(n):
    if n % 2:
        raise signals.SKIP(f"{n} is odd")
    return [[n]]


@task(skip_on_upstream_skip=False)
def told_what(value):
    return f"{type(value).__name__}: {value}"


@pytest.mark.parametrize("levels", [1, 2])
def test_a_skipped_child_gives_what_it_left_however_often_it_is_flattened(spelled, levels):
    def program():
        value = skip_odd.map([1, 2])
        for _ in range(levels):
            value = flatten(value)
        return {"told": told_what.map(value)}

    found = [state.result for state in spelled.states(program)["told"].map_states]
    assert found[0] == "SKIP: 1 is odd"
