"""The story of a run: what happened to each child, moment by moment, to debug the engine or a cluster.

It is kept only with ``story=True`` or ``PREFECTISH_VALIDATE=1``: the verbs that write the tables of
the run are replaced by verbs that note it too. A run without it pays nothing.
"""

from __future__ import annotations

from typing import Any

from prefectish.engine.capture import Error, capture
from prefectish.engine.jobs.bundle import Bundle, BundleRecords
from prefectish.engine.jobs.job import Job, Record
from prefectish.engine.jobs.protocol import Lost
from prefectish.engine.scheduling.changes import Changes
from prefectish.engine.scheduling.run_state import MapRow, MapState, StepChain, StepState
from prefectish.engine.state import Retrying, Scheduled, State
from prefectish.engine.state_column import SUCCEEDED
from prefectish.engine.task_states import RunStory
from prefectish.safe_repr import printable


class RecordedChanges(Changes):
    """Writes the tables of a run, and notes what happened in its story."""

    __slots__ = ("story",)

    def __init__(self, *tables: Any, story: RunStory) -> None:
        super().__init__(*tables)
        self.story = story

    def _note(self, what: str, step_state: StepState, row: int | None, details: str) -> None:
        step = step_state.step
        self.story.note(self.run_state.now.seconds, what, step.slug, row if step.mapped else None, details)

    def _note_job(self, what: str, job: Job, mask: int, details: str) -> None:
        """Note what happened to each of the steps of a job that a mask names."""
        row = job.index if job.index >= 0 else 0
        for position in job.positions:
            if mask >> position & 1:
                self._note(what, self.run_state.step_states[job.chain.steps[position].number], row, details)

    def open_map(self, step_state: StepState, state: State, map_state: MapState) -> None:
        """Open the rows of a map, as many as are known."""
        super().open_map(step_state, state, map_state)
        self._note("opened", step_state, None, f"{map_state.width or 0} rows so far")

    def submit_row(self, chain: StepChain, map_row: MapRow, job: Job, mask: int) -> None:
        """Note a job that carries steps of a row."""
        super().submit_row(chain, map_row, job, mask)
        together = ", ".join(chain.spec.steps[p].label for p in job.positions)
        kind = ", alone" if job.solo else ", only to probe the cache" if job.probe_only else ""
        self._note_job("submitted", job, mask, f"job {job.submission} of its row: {together}{kind}")

    def open_bundle(self, chain: StepChain, bundle: Bundle) -> None:
        """Open rows that are submitted whole, and of which nothing else is known."""
        super().open_bundle(chain, bundle)
        together = ", ".join(step.label for step in bundle.chain.steps)
        for row in bundle.rows:
            for step_state in chain.step_states:
                self._note("submitted", step_state, row, f"job 0 of its row, in batch {bundle.number}: {together}")

    def finish_bundle(self, chain: StepChain, bundle: Bundle, records: BundleRecords) -> None:
        """Write the final states of the rows of a bundle that plainly succeeded; the others are single rows then."""
        where = f" on {records.worker}" if records.worker else ""
        for number, row in enumerate(bundle.rows):
            if number not in records.others:
                for step_state, seconds in zip(chain.step_states, records.seconds, strict=True):
                    text = f"Success: {SUCCEEDED}"
                    self._note("receipt", step_state, row, f"{text}, after {seconds[number]:.3f} s{where}")
                    self._note("finished", step_state, row, text)
        super().finish_bundle(chain, bundle, records)

    def open_inline_row(self, chain: StepChain, row: int, items: tuple[Any, ...], record: Record) -> MapRow:
        """Open a row that ran where it was called, as if it had been submitted."""
        map_row = super().open_inline_row(chain, row, items, record)
        self._note("ran", chain.step_states[0], row, f"where it was called: {_described(record.state)}")
        return map_row

    def take_record(self, map_row: MapRow, job: Job, bit: int, record: Record) -> None:
        """Note that a job has reported a step."""
        where = f" on {record.worker}" if record.worker else ""
        if not record.begun:
            self._note_job("recalled", job, bit, "its body had not begun")
        else:
            self._note_job("receipt", job, bit, f"{_described(record.state)}, after {record.seconds:.3f} s{where}")
        super().take_record(map_row, job, bit, record)

    def lose_job(self, map_row: MapRow, job: Job, lost: Lost) -> int:
        """Note that a job was lost; return the mask of the steps that it had not reported."""
        awaited = super().lose_job(map_row, job, lost)
        deaths = f" after {lost.deaths} deaths" if lost.deaths else ""
        detail = f": {lost.detail}" if lost.detail else ""
        self._note_job("lost", job, awaited, f"{lost.cause}{deaths}{detail}")
        return awaited

    def wait_row(self, chain: StepChain, map_row: MapRow, position: int, state: State | None = None) -> None:
        """Let a step of a row wait; `state` is what it starts from afterwards."""
        super().wait_row(chain, map_row, position, state)
        step_state = chain.step_states[position]
        if state is None:
            self._note("suspect", step_state, map_row.row, "it runs again alone, once what runs beside it has ended")
            return
        due = f", due at {state.start_time.isoformat()}" if isinstance(state, Scheduled) and state.start_time else ""
        what = "retried" if isinstance(state, Retrying) else "waiting"
        self._note(what, step_state, map_row.row, f"{_described(state)}{due}")

    def abandon(self, map_row: MapRow, mask: int) -> list[Job]:
        """Await steps of a row no longer; return the jobs that await nothing more, which are cancelled."""
        abandoned = super().abandon(map_row, mask)
        for job in abandoned:
            self._note_job("abandoned", job, mask, "its job is cancelled")
        return abandoned

    def finish_row(self, step_state: StepState, row: int, state: State, width: Any) -> None:
        """Write the final state of a row."""
        self._note("finished", step_state, row, _described(state))
        super().finish_row(step_state, row, state, width)

    def finish_step(self, step_state: StepState) -> None:
        """End a step whose rows are all final, if no more rows can come."""
        was_final = step_state.final
        super().finish_step(step_state)
        if step_state.final and not was_final and step_state.step.mapped:
            order = step_state.map_state.order() if step_state.map_state is not None else None
            if order is not None:
                self.story.orders[step_state.step.slug] = tuple(order)
            self._note("finished", step_state, None, f"all {len(step_state.children or ())} rows are final")

    def end_step(self, step_state: StepState, state: State) -> None:
        """End a step that has no children, in a state that no attempt made; handlers see it."""
        super().end_step(step_state, state)
        self._note("finished", step_state, None, _described(step_state.state))

    def forget_state(self, step_state: StepState, row: int) -> None:
        """Take back the final state of a row."""
        super().forget_state(step_state, row)
        self._note("reopened", step_state, row, "its final state is taken back, and it runs again")

    def cancel_early(self, step_state: StepState, row: int) -> None:
        """Note that a child is cancelled that has not begun."""
        super().cancel_early(step_state, row)
        self._note("cancelled", step_state, row, "before it began")


def _described(state: State) -> str:
    kind = type(state).__name__
    if state.message is None:
        return kind
    text = capture(str, state.message)  # a message may be any object, of user code
    if isinstance(text, Error):
        return f"{kind}: <message whose str raises {type(text.exception).__name__}>"
    line = printable(text.value.partition("\n")[0])
    return f"{kind}: {line}" if line else kind
