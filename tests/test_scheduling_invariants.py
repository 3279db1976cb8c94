"""The tables of a run are held against each other, and what does not fit is named."""

from __future__ import annotations

import pytest
from owner import Owner, chain_of

from prefectish.engine.scheduling.invariants import validate
from prefectish.errors import InvalidRunState


def test_tables_of_a_run_hold_and_a_wrong_counter_is_named():
    owner = Owner(chain_of())
    owner.start()
    run_state = owner.progress.run_state
    validate(run_state, 1)
    run_state.submitted_jobs += 1
    with pytest.raises(InvalidRunState, match="the run: it does not hold that submitted_jobs is the number of jobs"):
        validate(run_state, 2)


def test_row_with_a_state_that_is_not_final_is_named():
    owner = Owner(chain_of())
    owner.start()
    chain = next(iter(owner.progress.run_state.chains.values()))
    chain.open_rows[0].final |= 1
    with pytest.raises(InvalidRunState, match="row 0 of chain 0 of load: it does not hold that no step is both"):
        validate(owner.progress.run_state, 1)
