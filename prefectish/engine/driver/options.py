"""The options of a run, the same for flows and flow functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from prefectish.engine.state import State
from prefectish.errors import ParameterError
from prefectish.tasks.options import seconds

if TYPE_CHECKING:  # `import prefectish` reads this module, and none that pickles
    from prefectish.engine.jobs.protocol import Executor
    from prefectish.engine.scheduling.previous_run import Resumption


class RunOrigin(NamedTuple):
    """Who asked for a run, as the history keeps it."""

    begun_by: str | None = None  # "schedule", "manual", "parent" or "resume"
    scheduled_for: datetime | None = None
    deployment: str | None = None  # ``project/name``
    deployment_version: int | None = None
    agent: str | None = None
    parent: str | None = None  # the run whose task asked for it, or whose function called its flow


class RunOptions(NamedTuple):
    """How a flow is run. Frozen: :meth:`merged` gives others."""

    executor: Executor | None = None  # None for this process, or for what the front end chooses
    context: Mapping[str, Any] | None = None  # values that bodies find in ``prefectish.context``
    #: States from a former run by task; finished tasks are kept and feed their downstream, others continue from there.
    task_states: Mapping[Any, State] | None = None
    state: State | None = None  # the state that the flow starts from
    flow_run_name: str | None = None  # default: the identifier of the run
    #: Which large results can be read after the run: None for those of terminal and reference tasks, True for all,
    #: False for none, or a task, or several.
    keep_results: Any = None
    #: Longest time of the run in seconds; then open tasks are TimedOut, and those not started Cancelled.
    timeout: float | None = None
    spent: float = 0.0  # seconds of `timeout` that former drivers of the run have used
    #: "prompt" to ask on the terminal about paused tasks; None to end the run when only they are left.
    on_pause: str | None = None
    #: Where the run is recorded: None for the history in the home folder, False for nowhere, a path or a database URL.
    history: Any = None
    progress: bool | Callable[..., Any] | None = (
        None  # whether the run is shown while it is driven; None: in a terminal or a notebook
    )
    #: Whether the run keeps a log of what happens to each child; None: under ``PREFECTISH_VALIDATE=1``.
    story: bool | None = None
    #: Whether tasks compute their results anew and replace what is cached; None: as the setting `refresh_cache` says.
    refresh_cache: bool | None = None
    #: Whether a body that changes its arguments fails; None: as the setting `check_inputs` says.
    check_inputs: bool | None = None
    one_pass: bool = False  # whether the run ends, unfinished, where it would wait for a time
    page: bool | None = None  # whether a page shows the run in a browser, served by a process of its own
    background: bool = False  # whether the run is driven beside a user who types at the terminal
    resumption: Resumption | None = None  # a recorded run to continue
    run_id: str | None = None  # the identifier that the run was promised; None for a new one
    origin: RunOrigin | None = None  # who asked for the run; None for this process
    #: Of a flow function: runs after one that failed, and the seconds before each: a number, a list, or a function.
    retries: int = 0
    retry_delay: Any = 0
    #: Of a flow function: calls and children of one task that run at the same time, at most.
    max_concurrency: int | None = None

    def merged(self, **given: Any) -> RunOptions:
        """Return these options with those that are given, and not None, in their place; their values are checked."""
        chosen = {name: value for name, value in given.items() if value is not None}
        if "timeout" in chosen:
            chosen["timeout"] = seconds("timeout", chosen["timeout"])
        on_pause, state = chosen.get("on_pause"), chosen.get("state")
        if on_pause not in (None, "prompt"):
            raise ValueError(f"on_pause must be None, or 'prompt' to ask on the terminal, got {on_pause!r}")
        if state is not None and not isinstance(state, State):
            raise TypeError(f"state must be a State, got {state!r}")
        for name in ("story", "refresh_cache", "check_inputs", "page"):
            if chosen.get(name) not in (None, True, False):
                raise TypeError(f"{name} must be True or False, got {chosen[name]!r}; {_as_parameter(name)}")
        progress = chosen.get("progress")
        if progress not in (None, True, False) and not callable(progress):
            raise TypeError(
                f"progress must be True, False or a function, got {progress!r}; {_as_parameter('progress')}"
            )
        merged = self._replace(**chosen)
        if merged.page and merged.history is False:
            raise TypeError("page=True must have a history, which the page shows, got history=False")
        return merged


def _as_parameter(name: str) -> str:
    return f"give a parameter of this name its value with parameters={{'{name}': ...}}"


def check_reserved(parameters: Iterable[str], **options: Any) -> None:
    """Refuse an option of a run where a parameter has its name: it may be meant."""
    names = set(parameters)
    for name, value in options.items():
        if value is not None and name in names:
            raise ParameterError(f"{name}={value!r} is an option of the run; {_as_parameter(name)}")
