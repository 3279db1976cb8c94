"""What follows from the death of a worker, and how it is told: rules alone."""

from __future__ import annotations

import pytest

from prefectish.engine.jobs.protocol import Lost, Share
from prefectish.engine.scheduling.deaths import Deaths, after_death, death_in_words, is_of_memory, share_of


def verdicts(number, crash_retries, **about):
    lost, deaths = Lost("killed-worker", 1, tolerated=3, **about), Deaths()
    return [after_death(lost, deaths, crash_retries).value for _ in range(number)]


@pytest.mark.parametrize(
    ("share", "crash_retries", "expected"),
    [
        (Share.ALONE, 0, ["crashed"]),
        (Share.ALONE, 2, ["again", "again", "crashed"]),
        (Share.AMONG_OTHERS, 1, ["again", "alone"]),
    ],
)
def test_death_of_memory_is_tried_again_at_once_and_then_blamed(share, crash_retries, expected):
    assert verdicts(len(expected), crash_retries, of_memory=True, share=share) == expected


def test_other_deaths_are_let_pass_as_often_as_the_cluster_would():
    assert verdicts(5, 1, share=Share.ALONE) == ["again", "again", "again", "alone", "alone"]


def test_child_that_had_not_begun_has_no_part_in_a_death():
    deaths = Deaths()
    for _ in range(4):
        assert after_death(Lost("killed-worker", 1, tolerated=3, of_memory=True, share=Share.QUEUED), deaths, 1)
    assert (deaths.of_memory, deaths.queued) == (0, 4)


def test_child_that_is_said_to_be_queued_for_ever_counts_at_last():
    assert verdicts(6, 1, of_memory=True, share=Share.QUEUED) == ["again"] * 5 + ["alone"]


@pytest.mark.parametrize(
    ("executing", "processing", "threads", "share"),
    [
        (["a"], ["a", "b", "c"], 1, Share.ALONE),
        (["b"], ["a", "b", "c"], 1, Share.QUEUED),
        (["b"], ["a", "b", "c"], 2, Share.AMONG_OTHERS),
        (["a", "b"], ["a", "b", "c"], 2, Share.AMONG_OTHERS),
        ([], ["a"], 2, Share.ALONE),
        ([], [], 2, Share.ALONE),
    ],
)
def test_share_of_a_key_in_a_death(executing, processing, threads, share):
    assert share_of("a", executing, processing, threads) is share


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ({}, False),
        ({"out_of_memory": True}, True),
        ({"signal": "SIGKILL"}, False),
        ({"signal": "SIGKILL", "peak_memory": 9e8, "memory_limit": 1e9}, True),
        ({"signal": "SIGKILL", "peak_memory": 7e8, "memory_limit": 1e9}, False),
        ({"signal": "SIGSEGV", "peak_memory": 9e8, "memory_limit": 1e9}, False),
        ({"signal": "SIGKILL", "peak_memory": 9e8, "memory_limit": 1e9, "silent_seconds": 4.0}, False),
        ({"signal": "SIGKILL", "peak_memory": 9e8, "memory_limit": 1e9, "asked_to_end": "restart-1"}, False),
    ],
)
def test_death_is_of_memory_only_by_evidence(evidence, expected):
    assert is_of_memory(evidence) is expected


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        ({"asked_to_end": "restart-workers-17.5", "signal": "SIGKILL"}, "its worker was restarted on request"),
        ({"asked_to_end": "retire-workers-17.5"}, "its worker was retired"),
        ({"asked_to_end": "something-17"}, "ended by Dask: something-17"),
        ({"exit_code": -9, "signal": "SIGKILL", "silent_seconds": 300.0}, "did not answer for worker-ttl 300 s"),
    ],
)
def test_death_is_told_by_what_is_known_not_by_its_signal(evidence, words):
    assert death_in_words(evidence).startswith(words)
    assert "memory" not in death_in_words(evidence)
