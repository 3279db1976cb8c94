"""What pages and the JSON API are made of: typed records of runs, tasks, items, deployments and requests."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _since_epoch(value: datetime) -> datetime:
    try:
        value.timestamp()
    except (ValueError, OverflowError):
        raise ValueError(f"must be a time that a clock can show, got {value.isoformat()}") from None
    return value


#: JSON.
Json = Any
#: What a request gives: a number, a text to compare with or to search for, and a time, as all databases take them.
Number = Annotated[int, Field(ge=0, le=2**31 - 1)]
Text = Annotated[str, Field(max_length=1000)]
Moment = Annotated[datetime, AfterValidator(_since_epoch)]


class Record(BaseModel):
    """What a page or an answer of the API holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Count(Record):
    """How many items are in a state."""

    state: str
    number: int


class Paging(Record):
    """Where a page of a list is, from 1."""

    page: int
    pages: int
    size: int
    total: int


class RunSummary(Record):
    """A run in a list."""

    id: str
    name: str
    flow: str
    project: str | None = Field(description="of its deployment")
    deployment: str | None = Field(description="project/name")
    deployment_version: int | None
    state: str = Field(description='that of the flow; "Lost" if its driver is gone, "Paused" while it is held')
    message: str | None
    is_live: bool = Field(description="whether a driver drives it")
    is_success: bool
    is_mixed: bool = Field(description="a success in which something failed or did not run")
    started: datetime
    ended: datetime | None
    seconds: float
    counts: list[Count] = Field(description="items and tasks by what they count as: succeeded, failed, not run, ...")
    counted: str = Field(description="the counts in words")
    trigger: str | None = Field(description="schedule, manual, parent or resume")
    slow_factor: float | None = Field(description="how many times the median of its flow it took, if that is much")


class FlowTrend(Record):
    """Durations of the last successful runs of a flow, the oldest first."""

    flow: str
    runs: list[str]
    seconds: list[float]
    median: float | None


class RunFilter(Record):
    """Which runs are listed."""

    flow: Text | None = None
    project: Text | None = None
    state: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    text: Text | None = Field(default=None, description="begin of the id, or a part of the name or the message")


class RunsPage(Record):
    """A page of runs, the newest first."""

    runs: list[RunSummary]
    paging: Paging
    filter: RunFilter
    trends: list[FlowTrend] = Field(description="of the flows on this page")
    flows: list[str] = Field(description="all names, to choose from")
    projects: list[str]
    states: list[str]


class TaskRow(Record):
    """A task of a run."""

    step: int = Field(description="its number in the run, which addresses use")
    slug: str
    label: str = Field(description="its name, or its slug if several tasks have its name")
    is_map: bool
    state: str | None
    counts: list[Count] = Field(description="items by state, those that are running or not begun included")
    is_counted: bool = Field(description="whether the counts are complete: those of a large map are read meanwhile")
    done: int
    failed: int
    total: int | None = Field(description="None while the width of a map is not known")
    running: int
    rate: float | None = Field(description="items a second, lately")
    seconds_left: float | None
    began: datetime | None
    ended: datetime | None
    progress: str | None = Field(default=None, description="what a running task says of itself")


class Edge(Record):
    """An arrow of the graph of a run, between steps."""

    start: int
    end: int
    argument: str | None
    mapped: bool


class Cause(Record):
    """Failures of one cause."""

    number: int = Field(description="of the cause, for failed items")
    type: str
    message: str
    traceback: str | None
    count: int
    is_consequence: bool = Field(description="they did not run because of others")
    step: int | None = Field(description="the task in which it occurs; None if in several")
    task: str | None
    first: list[ItemRef]


class ItemRef(Record):
    """A child of a map, or a single task."""

    step: int
    task: str
    index: int | None
    row: int = Field(description="in addresses; 0 for a single task")
    label: str
    item_key: str | None


class Waiting(Record):
    """A task that waits for an approval, or its next attempt."""

    run: str
    flow: str
    item: ItemRef
    state: str
    message: str | None
    due: datetime | None
    context: dict[str, Any] = Field(description="what the task shows to who approves")
    since: datetime
    is_live: bool = Field(description="whether the run continues at once; otherwise when it is resumed")
    answer: list[FormField] = Field(description="the answer that it wants; empty: only a yes")


class Ask(Record):
    """What was asked of a run, by whom, and what became of it."""

    number: int
    run: str
    verb: str
    what: str = Field(description="in words")
    asked_by: str
    asked: datetime
    answered: datetime | None
    answer: Json = None
    error: str | None


class Notice(Record):
    """A notification of a run."""

    at: datetime
    channel: str
    subject: str
    error: str | None


class RunDetail(Record):
    """A run."""

    run: RunSummary
    tasks: list[TaskRow]
    hidden: int = Field(description="further tasks, which have no row; their counts are in those of the run")
    edges: list[Edge]
    causes: list[Cause]
    waiting: list[Waiting] = Field(description="for an approval")
    retrying: int = Field(description="items that wait for their next attempt")
    asks: list[Ask] = Field(description="the last ones, the newest first")
    notices: list[Notice]
    facts: list[tuple[str, str]] = Field(description="version, environment, executor, agent, ... by name")
    scheduled_for: datetime | None
    parameters: dict[str, Json] | None = Field(description="None if they are not recorded")
    resumed: int = Field(description="how often it was resumed")
    children: list[str] = Field(description="runs that its tasks asked for")
    parent: str | None
    verbs: list[str] = Field(description="what can be asked of it now")
    resume_command: str | None = Field(description="what continues it where nothing drives it")
    again: Literal["resume", "retry"] | None = Field(description="how an agent can be asked to continue it, if it can")
    again_refused: str | None = Field(description="why no agent can")


class Track(Record):
    """Running items of a worker or a task over time: the mean of each interval."""

    name: str
    items: int
    seconds: float
    busy: list[float]
    failed: int


class Timeline(Record):
    """What ran when."""

    run: str
    started: datetime
    interval: float = Field(description="seconds of each value")
    workers: list[Track]
    tasks: list[Track]
    slowest: list[SlowItem]
    is_complete: bool = Field(description="whether it was read: that of a large run takes a moment, ask again")
    sample: int = Field(description="one in so many items was read")


class SlowItem(Record):
    """One of the items that took longest."""

    item: ItemRef
    seconds: float
    state: str
    worker: str | None
    attempts: int


class MapDetail(Record):
    """A map of a run."""

    run: RunSummary
    task: TaskRow
    causes: list[Cause]
    width: int = Field(description="of the picture: items that are known")
    longest: float = Field(description="seconds of the last colour of durations")
    verbs: list[str]
    upstream: list[int]


class FailedItem(Record):
    """A failed item in a table."""

    item: ItemRef
    state: str
    cause: int
    error: str
    attempts: int
    seconds: float | None
    worker: str | None
    at: datetime


class FailedItems(Record):
    """A page of failed items."""

    run: str
    items: list[FailedItem]
    paging: Paging
    cause: int | None
    step: int | None
    text: str | None
    causes: list[Cause] = Field(description="of the run, or of the task, to choose from")
    sort: Literal["item", "seconds", "attempts", "worker", "time"]
    descending: bool


class Attempt(Record):
    """An attempt of an item."""

    number: int
    state: str
    seconds: float | None
    at: datetime
    message: str | None
    error: str | None
    worker: str | None


class LogLine(Record):
    """A line of the log of a task run."""

    number: int
    at: datetime
    level: str
    item: ItemRef | None
    label: str
    attempt: int
    logger: str | None
    text: str
    traceback: str | None


class LogLines(Record):
    """Lines of a log, the oldest first."""

    run: str
    lines: list[LogLine]
    last: int = Field(description="give it as `after` to read on")
    earlier: int | None = Field(description="give it as `before` to read what was logged before")
    levels: list[str]


class ItemDetail(Record):
    """An item: a child of a map, or a single task."""

    run: RunSummary
    item: ItemRef
    state: str
    message: str | None
    error: str | None
    traceback: str | None
    source: list[SourceLine] = Field(description="lines around the place where it failed, if the file is here")
    source_file: str | None
    attempts: list[Attempt] = Field(description="in order, the last one included")
    worker: str | None
    seconds: float | None
    cpu_time: float | None
    peak_memory: int | None
    bytes_out: int | None
    location: str | None = Field(description="of its result")
    inputs: list[StoredInput]
    logs: LogLines
    replay: str = Field(description="the command or code that runs it again in this place")
    previous: int | None = Field(description="rows of its neighbours")
    next: int | None
    verbs: list[str]


class SourceLine(Record):
    """A line of a file."""

    number: int
    text: str
    is_here: bool


class StoredInput(Record):
    """Where an argument of an item came from."""

    argument: str
    item: ItemRef | None
    location: str | None
    text: str | None = Field(description="its value, where it is stored as text; None: it is not shown")


class Found(Record):
    """Items that a search found."""

    run: str
    step: int
    items: list[ItemRef]


class ComparedTask(Record):
    """Durations of a task in two runs, in seconds."""

    task: str
    before: float | None
    after: float | None
    total_before: float
    total_after: float


class ChangedItem(Record):
    """An item that is slower or larger than before."""

    label: str
    before: float
    after: float
    factor: float | None


class Compared(Record):
    """Two runs compared."""

    before: RunSummary
    after: RunSummary
    tasks: list[ComparedTask]
    new_causes: list[Cause]
    gone_causes: list[Cause]
    slower: list[ChangedItem]
    larger: list[ChangedItem]
    note: str | None = Field(description="what was left out of runs with very many items")


class ComparePage(Record):
    """What can be compared, and the comparison if two runs are chosen."""

    compared: Compared | None
    choices: list[RunSummary]


class FormField(Record):
    """A field of a form, made of the type of a parameter."""

    name: str
    label: str
    kind: Literal["text", "integer", "number", "boolean", "choice", "date", "datetime", "json"]
    default: Json = None
    value: str = Field(default="", description="the default as the field shows it")
    required: bool
    choices: list[str] = []
    help: str = ""


class DeploymentSummary(Record):
    """A deployed flow."""

    id: int
    project: str
    name: str
    version: int
    flow: str
    is_active: bool = Field(description="whether its schedules are followed")
    archived: datetime | None
    created: datetime
    created_by: str
    labels: list[str]
    schedules: list[str] = Field(description="in words")
    next: list[datetime]
    last: RunSummary | None
    waiting: int = Field(description="runs that wait for their time or an agent")


class DeploymentsPage(Record):
    """Deployed flows."""

    deployments: list[DeploymentSummary]
    archived: bool = Field(description="whether former versions are listed")
    agents_at_work: int


class Requested(Record):
    """A run that was asked for and waits, or is about to begin."""

    run: str
    state: str
    due: datetime
    asked: datetime
    asked_by: str
    begun_by: str
    message: str | None


class DeploymentDetail(Record):
    """A deployed flow, its versions and its runs."""

    deployment: DeploymentSummary
    versions: list[DeploymentSummary]
    runs: list[RunSummary]
    waiting: list[Requested]
    form: list[FormField]
    options: dict[str, Json]
    environment: str
    source: str


class AgentRow(Record):
    """An agent."""

    id: str
    process: str
    labels: list[str]
    limit: int | None
    started: datetime
    seen: datetime
    stopped: datetime | None
    is_at_work: bool
    runs: list[str] = Field(description="that it drives")


class AgentsPage(Record):
    """Agents, those at work first."""

    agents: list[AgentRow]
    waiting: list[Requested]


class LimitRow(Record):
    """A limit across runs."""

    name: str
    size: int
    is_set: bool = Field(description="from outside; else by tasks")
    held: int
    runs: list[str]


class LimitsPage(Record):
    """Limits across runs."""

    limits: list[LimitRow]


class ApprovalsPage(Record):
    """What waits for an answer, in all runs."""

    waiting: list[Waiting]


class Refusal(Record):
    """Why a request was refused."""

    error: str


class Asked(Record):
    """An answer to a request that changes something."""

    done: str = Field(description="in words")
    asks: list[Ask] = []
    run: str | None = None


for _model in list(globals().values()):
    if isinstance(_model, type) and issubclass(_model, Record):
        _model.model_rebuild()
