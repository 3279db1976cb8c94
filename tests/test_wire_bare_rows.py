"""Bodies of a batch that are called in a row, because nothing is attached to them."""

from __future__ import annotations

import pytest
from jobs import jobs_of

from prefectish import Flow, task, unmapped
from prefectish.engine.wire.bare_rows import BareRows


def chain_of(*bodies, shared=None, **options):
    """Return the chain of a map whose steps follow one another."""
    with Flow("bare") as flow:
        last = [1, 2, 3]
        for body in bodies:
            more = {} if shared is None else {"y": unmapped(shared)}
            last = task(body, **options).map(last, **more)
    _, jobs = jobs_of(flow)
    return jobs[0].chain


def double(x):
    return 2 * x


def inverse(x):
    return 1 / x


def add(x, y):
    return x + y


def called(chain, item):
    found = BareRows.of(chain).call(0, tuple(range(len(chain.steps))), (item,), 0)
    return [getattr(one.outcome, "value", None) for one in found]


def test_bodies_of_a_row_are_called_one_after_the_other():
    assert called(chain_of(double, double), 3) == [6, 12]


def test_row_ends_with_the_body_that_does_not_plainly_succeed():
    found = BareRows.of(chain_of(inverse, double)).call(0, (0, 1), (0,), 0)
    assert [type(one.outcome).__name__ for one in found] == ["Error"]
    assert not found[0].is_plain


def test_what_all_rows_share_is_given_to_each():
    assert called(chain_of(add, shared=5), 1) == [6]


@pytest.mark.parametrize("item", [[1], object(), ValueError("x")])
def test_row_whose_input_needs_a_look_is_not_called(item):
    assert BareRows.of(chain_of(double)).call(0, (0,), (item,), 0) is None


def test_row_that_begins_in_the_middle_is_not_called():
    assert BareRows.of(chain_of(double, double)).call(0, (1,), (1,), 0) is None


@pytest.mark.parametrize("options", [{"timeout": 5}, {"log_stdout": True}])
def test_chain_to_which_something_is_attached_has_no_bare_rows(options):
    assert BareRows.of(chain_of(double, **options)) is None
