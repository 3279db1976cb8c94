"""How many short children workers are given ahead of their turn: the rules alone."""

from __future__ import annotations

import pytest

from prefectish.engine.scheduling.ahead import (
    LEAST_AHEAD,
    MOST_AHEAD,
    PATIENCE,
    SECONDS_AHEAD,
    Pace,
    Room,
    children_ahead,
    is_alone,
    is_held_up,
    spread,
    window_of,
)


@pytest.mark.parametrize("mean", [0.0, 1e-6, 0.001, 0.004, 0.01, 0.0156])
def test_what_waits_on_a_thread_is_bounded_in_number_and_in_seconds(mean):
    number = children_ahead(mean)
    assert LEAST_AHEAD <= number <= MOST_AHEAD
    assert number * mean <= SECONDS_AHEAD


@pytest.mark.parametrize("mean", [0.016, 0.1, 3600.0])
def test_long_children_wait_for_their_turn(mean):
    assert children_ahead(mean) == 0


def test_nothing_is_said_of_a_chain_before_some_children_have_ended():
    pace = Pace(now=100.0)
    assert pace.ahead(100.0) is None
    for _ in range(7):
        pace.note(0.001)
    assert pace.ahead(100.0 + PATIENCE) is None
    pace.note(0.001)
    assert pace.ahead(100.0 + PATIENCE) == MOST_AHEAD


def test_chain_of_which_no_child_ends_is_a_long_one():
    pace = Pace(now=100.0)
    assert pace.ahead(100.1 + PATIENCE) == 0


def test_one_long_child_makes_a_chain_long_and_short_ones_make_it_short_again():
    pace = Pace(now=0.0)
    for _ in range(1000):
        pace.note(0.001)
    pace.note(5.0)
    assert pace.ahead(1.0) == 0
    for _ in range(300):
        pace.note(0.001)
    assert pace.ahead(1.0) > 0


@pytest.mark.parametrize(
    ("threads", "paces", "rows"),
    [
        (2, [64], 128),
        (2, [None], 64),  # until it is known
        (2, [64, None], 128),
        (64, [None], 512),
        (64, [64], 4096),
        (2, [16], 32),
        (2, [0], 5000),  # long ones wait in the queue
        (2, [64, 0], 5000),
        (2, [], 5000),
    ],
)
def test_window_follows_the_chains_that_are_open(threads, paces, rows):
    assert window_of(5000, threads, paces) == rows


def test_window_is_never_wider_than_the_user_said():
    assert window_of(3, 2, [64]) == window_of(3, 2, [None]) == window_of(3, 2, [0]) == 3


def test_children_are_spread_evenly_by_thread():
    rooms = [Room("a", 1, 0), Room("b", 3, 0)]
    found = spread(40, rooms, 64)
    assert (found.count("a"), found.count("b")) == (10, 30)


def test_busy_worker_gets_fewer_and_a_full_one_none():
    rooms = [Room("full", 1, 64), Room("busy", 1, 60), Room("free", 1, 50)]
    found = spread(100, rooms, 64)
    assert (found.count("full"), found.count("busy"), found.count("free")) == (0, 4, 14)


def test_no_worker_takes_none():
    assert spread(10, [], 64) == []


def test_run_is_alone_if_all_that_waits_is_its_own():
    assert is_alone([], "own")
    assert is_alone(["own", "own"], "own")
    assert not is_alone(["own", "other"], "own")
    assert not is_alone([None], "own")


def test_worker_is_held_up_by_long_bodies_on_all_of_its_threads():
    assert is_held_up([100.0, 0.6], 2)
    assert not is_held_up([100.0], 2)
    assert not is_held_up([], 1)
