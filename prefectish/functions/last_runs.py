"""What the last runs of flow functions called, without results: they have no other graph to draw, or to report on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefectish.engine.scheduling.verdict import states_so_far
from prefectish.engine.state import Mapped, State, Success, plain_success
from prefectish.engine.state_column import OPEN, StateColumn
from prefectish.engine.task_states import TaskStates

if TYPE_CHECKING:
    from prefectish.engine.scheduling.progress import Progress

#: Flow functions whose last run is remembered.
MOST_FLOWS = 20
_SUCCESS = plain_success(None)
_last: dict[str, tuple[str, TaskStates]] = {}  # by the name of the flow: identifier of the run, and its tasks


def keep(run_id: str, progress: Progress) -> None:
    """Remember what a run called, in place of the run before of the same flow."""
    plan = progress.run_state.plan
    states = states_so_far(plan, progress.run_state.step_states)
    for task, state in states.items():
        states[task] = _without_results(state)
    _last.pop(plan.flow_name, None)
    _last[plan.flow_name] = run_id, states
    while len(_last) > MOST_FLOWS:
        del _last[next(iter(_last))]


def _without_results(state: State) -> State:
    if isinstance(state, Mapped):
        column = state.map_states if type(state.map_states) is StateColumn else StateColumn.of(state.map_states or ())
        is_plain = column.kinds().keys() <= {Success}
        cells = [None] * len(column) if is_plain else [cell if _tells(cell) else None for cell in column.cells]
        children = StateColumn(cells)
        return Mapped(state.message, map_states=children, n_map_states=len(children))
    return _SUCCESS if type(state) is Success else state


def _tells(cell: Any) -> bool:
    """Whether the cell of a child says more than that it succeeded."""
    return cell is OPEN or (issubclass(type(cell), State) and type(cell) is not Success)


def of_flow(name: str) -> TaskStates | None:
    """Return what the last run of a flow function called; None if this process has run none, or many others since."""
    found = _last.get(name)
    return None if found is None else found[1]


def of_run(run_id: Any) -> TaskStates | None:
    """Return what a run called, if it was the last of its flow function."""
    return next((states for known, states in list(_last.values()) if known == run_id), None)
