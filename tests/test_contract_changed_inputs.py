"""Bodies that change what they are given, on every executor, in both front ends: R11 and NU-10."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import prefectish.testing  # noqa: F401 - what imports it is a test, and checks inputs
from prefectish import Flow, config, flow, task, unmapped
from prefectish.engine.state import Failed, State

Run = Callable[..., State]
COMPLAINT = "the body of {} changed its argument 'rows', which other tasks may read; change a copy of it"


@task
def grow(n: int, rows: list[int]) -> int:
    rows.append(n)
    return len(rows)


@task
def read(n: int, rows: list[int]) -> int:
    return n + len(rows)


def test_r11_body_that_changes_an_argument_fails_and_both_are_named(run: Run) -> None:
    with Flow("r11") as built:
        grown = grow.map([1, 2], unmapped([0]))
        fine = read.map([1, 2], unmapped([0]))
    state = run(built, check_inputs=True)
    assert [(type(s), s.message) for s in state.result[grown].map_states] == [
        (Failed, COMPLAINT.format("grow[0]")),
        (Failed, COMPLAINT.format("grow[1]")),
    ]
    assert state.result[fine].result == [2, 3]


def test_nu_10_calls_that_change_an_argument_fail(executor: Any) -> None:
    @flow(executor=executor)
    def calls() -> Any:
        return grow(1, [0], return_state=True)

    state = calls.run(check_inputs=True, history=False)
    assert (type(state), str(state.result)) == (Failed, COMPLAINT.format("grow[0]"))


def test_r11_inputs_are_checked_in_tests_and_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with Flow("r11") as built:
        grown = grow(1, [0])

    def is_found(**options: Any) -> bool:
        return type(built.run(history=False, **options).result[grown]) is Failed

    monkeypatch.delenv("PREFECTISH_CHECK_INPUTS")
    assert is_found()  # this module has imported prefectish.testing
    assert not is_found(check_inputs=False)
    monkeypatch.delitem(config.program_defaults, "check_inputs")
    assert not is_found()
    assert is_found(check_inputs=True)
    monkeypatch.setenv("PREFECTISH_CHECK_INPUTS", "1")
    assert is_found()
    assert not is_found(check_inputs=False)
    with pytest.raises(TypeError, match="check_inputs must be True or False, got 'yes'"):
        built.run(check_inputs="yes")


def test_r11_flow_functions_are_checked_in_tests_too(executor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    @flow(executor=executor)
    def calls() -> Any:
        return grow(1, rows=[0], return_state=True)

    monkeypatch.delenv("PREFECTISH_CHECK_INPUTS")
    state = calls.run(history=False)
    assert (type(state), str(state.result)) == (Failed, COMPLAINT.format("grow[0]"))


@task(retries=1, retry_delay_seconds=0)
def spoil(rows: list[int]) -> None:
    rows.clear()
    raise ValueError("no")


@task
def reorder(row: dict[str, int]) -> None:
    row["a"] = row.pop("a")


def test_r11_body_that_changes_the_order_of_a_dict_fails(spelled: Any) -> None:
    rows = [{"a": 1, "b": 2}, {"a": 1}]
    children = spelled.states(lambda: {"r": reorder.map(rows)}, check_inputs=True)["r"].map_states
    complaint = COMPLAINT.format("reorder[0]").replace("'rows'", "'row'")
    assert [(type(s), s.message) for s in children][:1] == [(Failed, complaint)]
    assert children[1].is_successful()


def test_r11_failed_body_that_changed_an_argument_is_warned_of(spelled: Any, caplog: pytest.LogCaptureFixture) -> None:
    def program() -> dict[str, Any]:
        return {"alone": spelled.call(spoil, [1]), "mapped": spoil.map([[1], [2]])}

    states = spelled.states(program, check_inputs=True)
    assert [str(s.result) for s in (states["alone"], *states["mapped"].map_states)] == ["no"] * 3  # its own error
    for name in ("spoil[0]" if spelled.in_function else "spoil-1", "spoil-2[0]", "spoil-2[1]"):
        assert COMPLAINT.format(name) in caplog.text
