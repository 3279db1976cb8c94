"""What has to hold between two turns of the loop, of the tables of a run against each other."""

from __future__ import annotations

from types import NoneType

from prefectish.engine.scheduling.run_state import MapRow, RunState, StepChain, StepState
from prefectish.engine.state import Failed
from prefectish.errors import InvalidRunState

#: Children that :func:`validate` looks at in one turn, on average.
CHILDREN_PER_TURN = 500


def validate(run_state: RunState, turn: int) -> None:
    """Check what has to hold between two turns of the loop; see also ``Admission.validate``.

    Raises
    ------
    InvalidRunState
        Naming the condition, and the step or chain for which it does not hold.
    """
    jobs = sum(map(_check_chain, run_state.chains.values()))
    _hold(run_state.submitted_jobs == jobs, "submitted_jobs is the number of jobs that are awaited", "the run")
    children = sum(len(step_state.children or ()) for step_state in run_state.step_states)
    if turn % (1 + children // CHILDREN_PER_TURN) == 0:  # a large map is not read whole in each turn
        for step_state in run_state.step_states:
            _check_step(step_state)


def _hold(condition: bool, what: str, where: str) -> None:
    if not condition:
        raise InvalidRunState(f"{where}: it does not hold that {what}")


def _check_chain(chain: StepChain) -> int:
    """Check the open rows of a chain; return the number of their jobs that are awaited."""
    where = f"chain {chain.spec.ident} of {chain.step_states[0].step.label}"
    rows = chain.open_rows.single.values()
    bundles = chain.open_rows.bundles.values()
    _hold(chain.probing == sum(r.probing for r in rows), "probing is the number of rows that probe", where)
    _hold(chain.done >= 0, "done is not negative", where)
    for bundle in bundles:
        found = (s.children.has(row) for s in chain.step_states for row in bundle.rows if s.children is not None)
        _hold(not any(found), "no row of an open bundle has a state", where)
    singles = sum(_check_row(chain, map_row, f"row {map_row.row} of {where}") for map_row in list(rows))
    return singles + sum(map(len, bundles))


def _check_row(chain: StepChain, map_row: MapRow, where: str) -> int:
    final, submitted, waiting = map_row.final, map_row.submitted, map_row.waiting
    _hold(not final & submitted, "no step is both final and submitted", where)
    _hold(not final & waiting, "no step is both final and waiting", where)
    _hold(not submitted & waiting, "no step is both submitted and waiting", where)
    _hold(not (final | submitted | waiting) & ~chain.full, "the masks name steps of the chain", where)
    awaited = 0
    for job in map_row.jobs:
        awaited |= job.awaiting
    _hold(submitted == awaited, "what is submitted is awaited by a job", where)
    for position, step_state in enumerate(chain.step_states):
        children = step_state.children
        if children is not None:
            has_state = step_state.has(map_row.row)
            _hold(not final >> position & 1 or has_state, f"{step_state.step.label} is final and has a state", where)
            _hold(
                bool(final >> position & 1) or not has_state, f"{step_state.step.label} has a state and is final", where
            )
    return sum(bool(job.awaiting) for job in map_row.jobs)


def _check_step(step_state: StepState) -> None:
    children, where = step_state.children, step_state.step.label
    if children is None or step_state.chain is None:
        return
    kinds = children.kinds()
    _hold(step_state.left == kinds[NoneType], "left is the number of rows without a state", where)
    failed = sum(count for kind, count in kinds.items() if issubclass(kind, Failed))
    _hold(step_state.failures == failed, "failures is the number of rows that failed", where)
    if step_state.map_state is not None:
        _hold(step_state.map_state.width == len(children), "the map domain has one position for each row", where)
