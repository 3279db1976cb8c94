"""What a final state changes: it fills a row, opens gates, grows flattened maps, ends steps, makes others known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prefectish.engine.handlers import notify_map_ended
from prefectish.engine.plan.map_domain import SCALAR
from prefectish.engine.plan.steps import Plan
from prefectish.engine.scheduling.failure_policy import action_after
from prefectish.engine.scheduling.ready import grow
from prefectish.engine.scheduling.release import ResultRelease
from prefectish.engine.scheduling.run_state import MapState, StepChain, StepState
from prefectish.engine.state import Cached, Mapped, State, Success
from prefectish.engine.worker.cache import remember


class Changes:
    """Writes final states into the tables.

    Parameters
    ----------
    queue
        Called with each chain that may have a row to start now.
    keep
        Steps whose large results are kept.

    Attributes
    ----------
    touched
        Groups to consider, because one of their inputs became known.
    stopping
        What maps that gave up ask for, by chain number: "stop" or "cancel"; taken away by who acts on it.
    raised
        The first ordinary error of a task, kept under ``raise_on_exception``.
    """

    def __init__(
        self,
        plan: Plan,
        step_states: Sequence[StepState],
        map_states: Iterable[MapState],
        facts: Mapping[str, Any],
        queue: Callable[[StepChain], None],
        keep: Iterable[int] = (),
    ) -> None:
        self.plan = plan
        self.queue = queue
        self.touched: set[int] = set()
        self.stopping: dict[int, str] = {}
        self.raised: BaseException | None = None
        self.result_release = ResultRelease(plan, step_states, frozenset(keep))
        self._raise = bool(facts.get("raise_on_exception"))
        self._resumed = "flow_run_part" in facts
        self._growing: dict[int, list[MapState]] = {}
        for map_state in map_states:
            self.add_domain(map_state)

    def add_domain(self, map_state: MapState) -> None:
        """Note a map domain; one that grows does so with the rows of the step it flattens."""
        if map_state.domain.grows:
            self._growing.setdefault(map_state.domain.sources[0].source, []).append(map_state)

    def finish_row(self, step_state: StepState, row: int, state: State, width: Any) -> None:
        """Note the final state of a row.

        Parameters
        ----------
        width
            What a map over the result has to know, see ``widths.measure``.
        """
        assert step_state.children is not None
        step_state.children[row] = state
        step_state.left -= 1
        if step_state.step.mapped:
            if step_state.widths is not None:
                step_state.widths[row] = SCALAR if width is None or not state.is_successful() else width
                self._grow(step_state, row)
        else:
            step_state.measurement = width
        if type(state) is not Success:
            self._count_kind(step_state, state)
        self.result_release.note(step_state, row, state)
        if step_state.reads:
            self.result_release.consumed(step_state, row)
        for chain in step_state.dependents:
            chain.dependency_finished(row)
            self.queue(chain)
        if step_state.watcher is not None:
            step_state.watcher.row(row, state, width)
        if not step_state.left:
            self.finish_step(step_state)

    def finish_step(self, step_state: StepState) -> None:
        """End a step whose rows are all final, if no more rows can come."""
        if (
            step_state.final
            or step_state.left
            or (step_state.map_state is not None and not step_state.map_state.closed)
        ):
            return
        children = step_state.children
        assert children is not None
        step_state.final = True
        if step_state.step.mapped:
            order = step_state.map_state.order() if step_state.map_state is not None else None
            states = list(children) if order is None else [children[row] for row in order]
            step_state.state = Mapped("Mapped tasks ended.", map_states=states, n_map_states=len(states))
            if step_state.rerun or not self._resumed:  # else it was told of when it ended
                notify_map_ended(step_state.step.task, step_state.state)
        else:
            state = children[0]
            assert state is not None
            step_state.state = state
        self.step_ended(step_state)
        for map_state in self._growing.get(step_state.step.number, ()):
            map_state.closed = True
            for member in map_state.members:
                self.finish_step(member)

    def step_ended(self, step_state: StepState) -> None:
        """Note that a step ended: what only it still needed goes, what waits for it is considered."""
        if step_state.reads:
            self.result_release.ended(step_state)
        self.touch_consumers(step_state)
        if step_state.watcher is not None:
            step_state.watcher.ended(step_state.state)

    def touch_consumers(self, step_state: StepState) -> None:
        """Have the groups that read a step considered again."""
        steps = self.plan.steps
        self.touched.update(g for c in step_state.step.consumers if (g := steps[c].group) is not None)

    def _grow(self, step_state: StepState, row: int) -> None:
        """Add the elements of a finished row to the flattened maps that read it."""
        for map_state in self._growing.get(step_state.step.number, ()):
            if map_state.paths is not None:
                grow(map_state, step_state, row)
                for chain in chains_of(map_state):
                    self.queue(chain)

    def _count_kind(self, step_state: StepState, state: State) -> None:
        """Note a state that is more than a plain success, which most are."""
        kind = type(state)
        step_state.kinds[kind] = step_state.kinds.get(kind, 0) + 1
        if state.is_failed():
            self._failed(step_state, state)
        elif kind is Cached:
            remember(step_state.step.task, state)

    def _failed(self, step_state: StepState, state: State) -> None:
        step_state.failures += 1
        if self._raise and self.raised is None:
            error = state.result
            self.raised = error if isinstance(error, Exception) else None
        if step_state.step.mapped and step_state.chain is not None and step_state.chain.admission_mode != "cancel":
            width = (
                step_state.map_state.width if step_state.map_state is not None and step_state.map_state.closed else None
            )
            action = action_after(step_state.step.task, step_state.failures, width)
            if action is not None and action != step_state.chain.admission_mode:
                self.stopping[step_state.chain.spec.ident] = action


def chains_of(map_state: MapState) -> Iterable[StepChain]:
    """Return the chains that run over a map domain."""
    return {id(m.chain): m.chain for m in map_state.members if m.chain is not None}.values()
