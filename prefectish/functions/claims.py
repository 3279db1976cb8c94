"""Which results can still be asked for: by a future, or by what waits to read them.

Written by the thread that drives the run alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from prefectish.engine.jobs.job import CALL
from prefectish.engine.scheduling.changes import Changes
from prefectish.engine.scheduling.run_state import StepState
from prefectish.functions.settled import Settled


class ResultClaims:
    """Counts who may ask for the result of a call, a child or a map, and lets go of it after the last one.

    Parameters
    ----------
    keeps
        Whether small results stay for the handle of the run, which anyone may ask at any time.
    """

    def __init__(self, changes: Changes, keeps: bool = False) -> None:
        self._changes = changes
        self._keeps = keeps
        self._maps: dict[int, int] = {}  # claims on maps, by identity of their outcomes, which each claim holds

    def claim(self, outcomes: Iterable[Settled]) -> None:
        """Note one more that may ask for each result."""
        release = self._changes.result_release
        for outcome in outcomes:
            if outcome.row is None:
                self._maps[id(outcome)] = self._maps.get(id(outcome), 0) + 1
            elif outcome.step_state is not None:
                release.claim(outcome.step_state.step.number, outcome.row)

    def unclaim(self, outcomes: Iterable[Settled]) -> None:
        """Note that one of them will not ask any more."""
        for outcome in outcomes:
            if outcome.row is None:
                self._unclaim_map(outcome)
            elif outcome.step_state is not None:
                step_state, row = outcome.step_state, outcome.row
                if self._changes.result_release.unclaim(step_state, row):
                    self.drop(step_state, row)

    def drop(self, step_state: StepState, row: int) -> None:
        """Forget the result of a call that cannot be asked for any more; its state stays."""
        chain = step_state.chain
        is_call = chain is not None and chain.precedence == CALL and not self._keeps
        if is_call and not self._changes.result_release.is_claimed(step_state.step.number, row):
            self._changes.drop_result(step_state, row)

    def _unclaim_map(self, outcome: Settled) -> None:
        left = self._maps.get(id(outcome), 0) - 1
        if left > 0:
            self._maps[id(outcome)] = left
            return
        self._maps.pop(id(outcome), None)
        self.start(outcome)

    def start(self, outcome: Settled) -> None:
        """Let go of the results of a map whose step is in the plan, as far as they cannot be asked for."""
        if outcome.step_state is not None and id(outcome) not in self._maps:
            self._changes.result_release.forget(outcome.step_state)
