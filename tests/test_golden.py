"""State histories that were stored are made again: by a run, and by the rules alone from what bodies did then."""

from __future__ import annotations

import json

import golden
import pytest

ANEW = "look at what changed; if it is meant to, write the files anew by: python tests/golden.py"


@pytest.mark.parametrize("name", golden.NAMES)
def test_run_has_the_history_that_is_stored(name):
    history = json.loads(json.dumps(golden.run(name)))
    for part, expected in golden.stored(name).items():
        assert history[part] == expected, f"{part} of {name}: {ANEW}"


@pytest.mark.parametrize("name", golden.NAMES)
def test_rules_alone_replay_the_history_that_is_stored(name):
    stored = golden.stored(name)
    history = golden.replay(name, stored["outcomes"])
    for part, made in history.items():
        assert json.loads(json.dumps(made)) == stored[part], f"{part} of {name}: {ANEW}"


def test_every_file_is_of_a_flow():
    assert {path.stem for path in golden.FOLDER.glob("*")} == set(golden.NAMES)


def test_replay_sees_a_rule_that_changed(monkeypatch):
    """A replay that cannot fail would tell nothing: retries that come too late are seen."""
    stored = golden.stored("retries")
    later = golden.retry

    def late(*about):
        state = later(*about)
        return state and state.replace(start_time=state.start_time + golden.timedelta(seconds=1))

    monkeypatch.setattr(golden, "retry", late)
    history = golden.replay("retries", stored["outcomes"])
    assert history["jobs"] != stored["jobs"]
    assert history["ends"] == stored["ends"]


def test_replay_sees_an_outcome_that_changed():
    stored = golden.stored("failed_child")
    outcomes = {**stored["outcomes"], "invert-1[1]": [{"value": 5}]}
    with pytest.raises(KeyError, match="double-1"):  # its body would be called now, and nothing is stored of it
        golden.replay("failed_child", outcomes)
