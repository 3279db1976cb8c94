"""Random programs end alike as a graph and as a flow function, on every executor, and as Python says."""

from __future__ import annotations

from collections import Counter

import pytest
import twins
from twins_oracle import foretell, tried
from twins_programs import FEATURES, Argument, Node, comparable, smaller

from prefectish.executors import LocalExecutor

#: Seeds of the programs that each run of the tests tries; the second half of them in another module, so that two
#: processes share them.
BLOCKS = [range(start, start + 50) for start in range(0, 500, 50)]
#: Features that few programs have: some programs are drawn for them.
RARE = ("wait_for_several", "equal_names")

pytestmark = pytest.mark.filterwarnings("ignore")  # options without effect are drawn, too


@pytest.fixture(scope="module")
def executors(dask_client):
    with twins.executors(client=dask_client) as made:
        yield made


def check_all(executors, seeds):
    """Return how many programs end alike everywhere; fail, by seed, at the first that does not."""
    for seed in seeds:
        try:
            twins.check(twins.program_of(seed), executors)
        except twins.Difference as error:
            pytest.fail(f"the program of seed {seed} differs; see the smallest: twins.py --seed {seed}\n{error}")
    return len(seeds)


@pytest.mark.parametrize("seeds", BLOCKS[::2], ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_twins_end_alike(executors, seeds):
    assert check_all(executors, seeds) == 50


@pytest.mark.parametrize("feature", RARE)
def test_twins_of_rare_features_end_alike(executors, feature):
    for seed in range(10):
        try:
            twins.check(twins.program_of(seed, feature), executors)
        except twins.Difference as error:
            pytest.fail(f"the program of seed {seed} for {feature} differs\n{error}")


def test_programs_try_all_that_is_not_known_to_be_broken():
    names = Counter(name for seeds in BLOCKS for seed in seeds for name in tried(twins.program_of(seed)))
    names.update(name for rare in RARE for seed in range(10) for name in tried(twins.program_of(seed, rare)))
    assert {name for name in FEATURES if names[name] < 3} == set(FEATURES) & set(twins.KNOWN_FAULTS)


def test_a_seed_gives_the_same_program_each_time():
    assert [twins.program_of(seed) for seed in range(20)] == [twins.program_of(seed) for seed in range(20)]


def test_smaller_programs_are_programs():
    programs = [program for seed in range(60) for program in smaller(twins.program_of(seed)) if comparable(program)]
    assert programs
    assert all(foretell(program) is not None for program in programs)


#: A map of which the second child fails, and what fits it.
FAILS = (Node(True, (Argument(None, "[1, 2]", "item"),), trouble="fail", rarity=2),)


def test_what_differs_is_reported_with_both_sources(monkeypatch):
    monkeypatch.setattr(twins, "fits", lambda *given: False)
    with pytest.raises(twins.Difference, match=r"(?s)r0, run 1, is.*with Flow\(.*@flow\(") as told:
        twins.check(FAILS, {"local": LocalExecutor()})
    assert told.value.kind == "wrong"


@pytest.mark.parametrize("name", ["value", "state", "call", "file"])
def test_each_kind_of_difference_is_seen(name):
    foretold = foretell(FAILS)
    (outcome,) = twins.run_twin(twins.twins_source.source(FAILS, functional=False), LocalExecutor(), again=False)
    kind, message, children = outcome.tasks["r0"]
    others = {
        "value": outcome._replace(tasks={"r0": (kind, message, [(*children[0][:2], "0"), *children[1:]])}),
        "state": outcome._replace(tasks={"r0": (kind, message, [("Skipped", *children[0][1:]), *children[1:]])}),
        "call": outcome._replace(notes=outcome.notes[:-1]),
        "file": outcome._replace(files={"a.pkl": "1"}),
    }
    twins.judge(FAILS, foretold, "it", "local", [outcome], None)
    twins.same(FAILS, foretold, ("one", [outcome]), ("other", [outcome]))
    if name != "file":
        with pytest.raises(twins.Difference):
            twins.judge(FAILS, foretold, "it", "local", [others[name]], None)
    if name != "call":
        with pytest.raises(twins.Difference):
            twins.same(FAILS, foretold, ("one", [outcome]), ("other", [others[name]]))


def test_more_at_a_time_than_the_limit_is_seen():
    notes = [("begin", "n0", 1, 1, 10), ("begin", "n0", 2, 1, 20), ("end", "n0", 1, 1, 30), ("end", "n0", 2, 1, 40)]
    outcome = twins.Outcome(None, {}, {}, notes)
    twins.judge_overlap("it", outcome, {"n0"}, 2)
    with pytest.raises(twins.Difference, match="2 bodies"):
        twins.judge_overlap("it", outcome, {"n0"}, 1)


def test_bodies_after_the_failure_that_stops_a_map_are_seen():
    node = Node(True, stop="stop", trouble="fail", rarity=1, busy=True)
    notes = [("begin", "n0", 1, 1, 10), ("end", "n0", 1, 1, 20), ("begin", "n0", 2, 1, 30)]
    twins.judge_stop("n0", node, "it", "threads", twins.Outcome(None, {}, {}, notes))
    with pytest.raises(twins.Difference, match="1 bodies began after"):
        twins.judge_stop("n0", node, "it", "local", twins.Outcome(None, {}, {}, notes))


def test_what_is_left_over_of_the_groups_of_a_reduction_is_foretold():
    for width in range(1, 8):
        items = Node(True, (Argument(None, f"range({width})", "item"),))
        program = (items, Node(False, (Argument(0),), kind="reduce", fan_in=2))
        assert twins.check(program, {"local": LocalExecutor()}) is None, "it raises what differs"


def test_known_faults_are_features():
    assert set(twins.KNOWN_FAULTS) <= {*FEATURES, *twins.SHOWN, *twins.IN_FEATURE}
