"""What a final state changes: it fills a row, opens gates, grows flattened maps, ends steps, makes others known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from prefectish.engine.handlers import tell_of_map
from prefectish.engine.plan.map_domain import SCALAR
from prefectish.engine.plan.steps import Plan
from prefectish.engine.scheduling.failure_policy import action_after
from prefectish.engine.scheduling.ready import grow
from prefectish.engine.scheduling.release import ResultRelease
from prefectish.engine.scheduling.run_state import MapState, StepChain, StepState
from prefectish.engine.state import Cached, Mapped, State, Success
from prefectish.engine.worker.cache import remember


class Transitions:
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
        runs: Sequence[StepState],
        spaces: Iterable[MapState],
        facts: Mapping[str, Any],
        queue: Callable[[StepChain], None],
        keep: Iterable[int] = (),
    ) -> None:
        self.plan = plan
        self.queue = queue
        self.touched: set[int] = set()
        self.stopping: dict[int, str] = {}
        self.raised: BaseException | None = None
        self.releases = ResultRelease(plan, runs, frozenset(keep))
        self._raise = bool(facts.get("raise_on_exception"))
        self._resumed = "flow_run_part" in facts
        self._growing: dict[int, list[MapState]] = {}
        for space in spaces:
            self.add_space(space)

    def add_space(self, space: MapState) -> None:
        """Note a space; one that grows does so with the rows of the step it flattens."""
        if space.space.grows:
            self._growing.setdefault(space.space.sources[0].source, []).append(space)

    def row(self, run: StepState, row: int, state: State, width: Any) -> None:
        """Note the final state of a row.

        Parameters
        ----------
        width
            What a map over the result has to know, see ``widths.measure``.
        """
        assert run.children is not None
        run.children[row] = state
        run.left -= 1
        if run.step.mapped:
            if run.widths is not None:
                run.widths[row] = SCALAR if width is None or not state.is_successful() else width
                self._grow(run, row)
        else:
            run.facts = width
        if type(state) is not Success:
            self._not_plain(run, state)
        self.releases.note(run, row, state)
        if run.reads:
            self.releases.consumed(run, row)
        for chain in run.gated:
            chain.open_gate(row)
            self.queue(chain)
        if run.watcher is not None:
            run.watcher.row(row, state, width)
        if not run.left:
            self.step(run)

    def step(self, run: StepState) -> None:
        """End a step whose rows are all final, if no more rows can come."""
        if run.final or run.left or (run.space is not None and not run.space.closed):
            return
        children = run.children
        assert children is not None
        run.final = True
        if run.step.mapped:
            order = run.space.order() if run.space is not None else None
            states = list(children) if order is None else [children[row] for row in order]
            run.state = Mapped("Mapped tasks ended.", map_states=states, n_map_states=len(states))
            if run.dirty or not self._resumed:  # else it was told of when it ended
                tell_of_map(run.step.task, run.state)
        else:
            state = children[0]
            assert state is not None
            run.state = state
        self.ended(run)
        for space in self._growing.get(run.step.number, ()):
            space.closed = True
            for member in space.members:
                self.step(member)

    def ended(self, run: StepState) -> None:
        """Note that a step ended: what only it still needed goes, what waits for it is considered."""
        if run.reads:
            self.releases.ended(run)
        self.touch_consumers(run)
        if run.watcher is not None:
            run.watcher.ended(run.state)

    def touch_consumers(self, run: StepState) -> None:
        """Have the groups that read a step considered again."""
        steps = self.plan.steps
        self.touched.update(g for c in run.step.consumers if (g := steps[c].group) is not None)

    def _grow(self, run: StepState, row: int) -> None:
        """Add the elements of a finished row to the flattened maps that read it."""
        for space in self._growing.get(run.step.number, ()):
            if space.paths is not None:
                grow(space, run, row)
                for chain in chains_of(space):
                    self.queue(chain)

    def _not_plain(self, run: StepState, state: State) -> None:
        """Note a state that is more than a plain success, which most are."""
        kind = type(state)
        run.kinds[kind] = run.kinds.get(kind, 0) + 1
        if state.is_failed():
            self._failed(run, state)
        elif kind is Cached:
            remember(run.step.task, state)

    def _failed(self, run: StepState, state: State) -> None:
        run.failures += 1
        if self._raise and self.raised is None:
            error = state.result
            self.raised = error if isinstance(error, Exception) else None
        if run.step.mapped and run.chain is not None and run.chain.stopped != "cancel":
            width = run.space.width if run.space is not None and run.space.closed else None
            action = action_after(run.step.task, run.failures, width)
            if action is not None and action != run.chain.stopped:
                self.stopping[run.chain.spec.ident] = action


def chains_of(space: MapState) -> Iterable[StepChain]:
    """Return the chains that run over a space."""
    return {id(m.chain): m.chain for m in space.members if m.chain is not None}.values()
