"""What the names of Prefect 1, 2 and 3 are here, and what to do about those that are not.

The one table of it: errors about a missing name, ``prefectish move`` and a part of ``docs/moving.md`` are made from it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

#: Names of Prefect 1 that are here, by its modules: where each is, ``name=ours`` if it has another name.
PLACES: Mapping[str, Mapping[str, str]] = {
    "prefect": {
        "prefectish": "Flow Parameter Task __version__ apply_map case context flatten mapped resource_manager tags "
        "task triggers unmapped"
    },
    "prefect.core": {"prefectish": "DateTimeParameter Flow Parameter Task", "prefectish.edges": "Edge"},
    "prefect.core.edge": {"prefectish.edges": "Edge"},
    "prefect.core.flow": {"prefectish": "DateTimeParameter Flow Parameter Task", "prefectish.edges": "Edge"},
    "prefect.core.parameter": {"prefectish": "DateTimeParameter Parameter"},
    "prefect.core.task": {"prefectish": "Parameter Task tags", "prefectish.tasks": "FunctionTask"},
    "prefect.client": {"prefectish": "Secret"},
    "prefect.client.secrets": {"prefectish": "Secret"},
    "prefect.engine.cache_validators": {
        "prefectish.engine.cache_validators": "all_inputs all_parameters duration_only never_use partial_inputs_only "
        "partial_parameters_only"
    },
    "prefect.engine.executors": {
        "prefectish.executors": "DaskExecutor LocalDaskExecutor LocalExecutor",
        "prefectish.engine.jobs.protocol": "Executor",
    },
    "prefect.engine.executors.base": {"prefectish.engine.jobs.protocol": "Executor"},
    "prefect.engine.executors.dask": {"prefectish.executors": "DaskExecutor LocalDaskExecutor"},
    "prefect.engine.executors.local": {"prefectish.executors": "LocalExecutor"},
    "prefect.engine.result": {"prefectish.results": "Result"},
    "prefect.engine.result.base": {"prefectish.results": "Result"},
    "prefect.engine.results": {"prefectish.results": "LocalResult"},
    "prefect.engine.results.local_result": {"prefectish.results": "LocalResult"},
    "prefect.engine.serializers": {"prefectish.results": "JSONSerializer PickleSerializer Serializer"},
    "prefect.engine.signals": {
        "prefectish.engine.signals": "ENDRUN FAIL LOOP PAUSE RETRY SKIP SUCCESS TRIGGERFAIL VALIDATIONFAIL "
        "PrefectSignal=Signal PrefectStateSignal=StateSignal TimeoutSignal signal_from_state"
    },
    "prefect.engine.state": {
        "prefectish.engine.state": "Cached Cancelled Cancelling Failed Finished Looped Mapped Paused Pending Queued "
        "Resume Retrying Running Scheduled Skipped State Submitted Success TimedOut TriggerFailed ValidationFailed"
    },
    "prefect.executors": {
        "prefectish.executors": "DaskExecutor LocalDaskExecutor LocalExecutor",
        "prefectish.engine.jobs.protocol": "Executor",
    },
    "prefect.executors.base": {"prefectish.engine.jobs.protocol": "Executor"},
    "prefect.executors.dask": {"prefectish.executors": "DaskExecutor LocalDaskExecutor"},
    "prefect.executors.local": {"prefectish.executors": "LocalExecutor"},
    "prefect.schedules": {"prefectish.schedules": "CronSchedule IntervalSchedule Schedule adjustments clocks filters"},
    "prefect.schedules.adjustments": {"prefectish.schedules.adjustments": "add next_weekday"},
    "prefect.schedules.clocks": {
        "prefectish.schedules.clocks": "Clock ClockEvent CronClock DatesClock IntervalClock RRuleClock"
    },
    "prefect.schedules.filters": {
        "prefectish.schedules.filters": "at_time between_dates between_datetimes between_times is_day_of_week "
        "is_month_end is_month_start is_weekday is_weekend on_date on_datetime"
    },
    "prefect.schedules.schedules": {"prefectish.schedules": "CronSchedule IntervalSchedule Schedule"},
    "prefect.tasks.control_flow": {
        "prefectish": "case ifelse merge switch",
        "prefectish.tasks.control_flow": "FilterTask",
    },
    "prefect.tasks.control_flow.case": {"prefectish": "case"},
    "prefect.tasks.control_flow.conditional": {
        "prefectish": "ifelse merge switch",
        "prefectish.tasks.control_flow": "CompareValue=Compare Merge",
    },
    "prefect.tasks.control_flow.filter": {"prefectish.tasks.control_flow": "FilterTask"},
    "prefect.tasks.core.collections": {"prefectish.tasks": "Dict List Set Tuple"},
    "prefect.tasks.core.constants": {"prefectish.tasks": "Constant"},
    "prefect.tasks.core.function": {"prefectish.tasks": "FunctionTask"},
    "prefect.tasks.core.resource_manager": {"prefectish": "resource_manager"},
    "prefect.tasks.notifications": {
        "prefectish.tasks.mail": "EmailTask",
        "prefectish.tasks.slack": "SlackTask",
    },
    "prefect.tasks.notifications.email_task": {"prefectish.tasks.mail": "EmailTask"},
    "prefect.tasks.notifications.slack_task": {"prefectish.tasks.slack": "SlackTask"},
    "prefect.tasks.prefect": {"prefectish.tasks.flows": "StartFlowRun=RunFlow"},
    "prefect.tasks.prefect.flow_run": {"prefectish.tasks.flows": "StartFlowRun=RunFlow"},
    "prefect.tasks.secrets": {
        "prefectish": "EnvVarSecret PrefectSecret=Secret",
        "prefectish.tasks.secrets": "SecretBase",
    },
    "prefect.tasks.secrets.base": {
        "prefectish": "EnvVarSecret PrefectSecret=Secret",
        "prefectish.tasks.secrets": "SecretBase",
    },
    "prefect.tasks.secrets.env_var": {"prefectish": "EnvVarSecret"},
    "prefect.tasks.shell": {"prefectish.tasks.shell": "ShellTask"},
    "prefect.triggers": {
        "prefectish.triggers": "all_failed all_finished all_successful always_run any_failed any_successful "
        "manual_only not_all_skipped some_failed some_successful"
    },
    "prefect.utilities.context": {"prefectish": "context"},
    "prefect.utilities.debug": {"prefectish": "raise_on_exception"},
    "prefect.utilities.edges": {"prefectish": "flatten mapped unmapped"},
    "prefect.utilities.logging": {"prefectish": "get_logger"},
    "prefect.utilities.notifications": {
        "prefectish.utilities.notifications": "callback_factory slack_notifier gmail_notifier=email_notifier"
    },
    "prefect.utilities.notifications.notifications": {
        "prefectish.utilities.notifications": "callback_factory slack_notifier gmail_notifier=email_notifier"
    },
    "prefect.utilities.tasks": {"prefectish": "apply_map pause_task tags task unmapped"},
}
#: Names of Prefect 2 and 3, in the same way.
LATER_PLACES: Mapping[str, Mapping[str, str]] = {
    "prefect": {
        "prefectish": "Task allow_failure flow get_run_logger serve tags task unmapped",
        "prefectish.engine.state": "State",
    },
    "prefect.cache_policies": {"prefectish.cache_policies": "INPUTS NO_CACHE TASK_SOURCE"},
    "prefect.context": {"prefectish": "tags"},
    "prefect.flows": {"prefectish": "flow"},
    "prefect.futures": {"prefectish": "as_completed wait"},
    "prefect.logging": {"prefectish": "get_logger get_run_logger"},
    "prefect.logging.loggers": {"prefectish": "get_logger get_run_logger"},
    "prefect.states": {"prefectish.engine.state": "State"},
    "prefect.task_runners": {
        "prefectish": "ConcurrentTaskRunner=ThreadPoolTaskRunner ThreadPoolTaskRunner",
        "prefectish.executors": "SequentialTaskRunner=LocalExecutor",
    },
    "prefect.tasks": {"prefectish": "Task exponential_backoff task", "prefectish.tasks": "task_input_hash"},
    "prefect.utilities.annotations": {"prefectish": "allow_failure unmapped"},
    "prefect_dask": {"prefectish": "DaskTaskRunner"},
    "prefect_dask.task_runners": {"prefectish": "DaskTaskRunner"},
}


class Gone(NamedTuple):
    """Names of Prefect that are not here; a module stands for all in it that has no place."""

    names: str
    instead: str
    #: Who has them: Prefect 1, or the later ones.
    later: bool = False
    #: Whether the way out is to delete what is said with them.
    deleted: bool = False


_COMMAND = ". `prefectish move FILE` rewrites a file"
_CODE = "code is not stored here, so delete it, and install your code where your workers are"
_PLACES = (
    "delete it; the executor says where tasks run, and flow.deploy(project, environment=...) where a deployed flow does"
)
_RUNNERS = "write flow.run(...), whose state has all tasks"
_RUN_FLOW = "write RunFlow('project/name') of prefectish.tasks.flows: it asks for a run and, unless wait=False, waits"
_RECORDED = "write prefectish.history.run(run_id), or prefectish.attach(run_id) for one that is open"
_REGISTRY = "there is no server: prefectish.deployments() and prefectish.history ask the database of the history"
_FACTS = "write prefectish.context, which has flow_run_id, flow_run_name, task_run_id, parameters and others"
_SETTINGS = "settings are in ~/.prefectish/config.toml and PREFECTISH_... variables"
_ERRORS = "exceptions are in prefectish.errors, signals in prefectish.engine.signals"
_KEEP = "write result=LocalResult(...), or FSResult(...), of prefectish.results"
_IN_THE_BACKGROUND = "a task runs in a flow: call it in a function with @flow, and start that with my_flow.start()"
_DEPLOY = "write flow.deploy(project), run by `prefectish agent start`, or prefectish.serve(flow)"

#: What is not here, and the way out.
GONE: tuple[Gone, ...] = (
    Gone("prefect.storage", _CODE, deleted=True),
    Gone("prefect.run_configs", _PLACES, deleted=True),
    Gone("prefect.environments.storage", _CODE, deleted=True),
    Gone("prefect.environments", _PLACES, deleted=True),
    Gone("prefect.Client prefect.client prefect.client.client", _REGISTRY),
    Gone("prefect.tasks.prefect", _RUN_FLOW),
    Gone("prefect.backend.FlowRunView prefect.backend.TaskRunView prefect.backend.flow_run", _RECORDED),
    Gone("prefect.backend.FlowView prefect.backend.flow", "write prefectish.deployments(project)"),
    Gone(
        "prefect.backend.kv_store prefect.backend.get_key_value prefect.backend.set_key_value "
        "prefect.backend.delete_key prefect.backend.list_keys",
        "keep values in a file or a database of your own",
    ),
    Gone(
        "prefect.artifacts prefect.backend.artifacts",
        "log it (prefectish.context.logger), or return it with a result store; `prefectish report` shows a run",
    ),
    Gone("prefect.backend", _REGISTRY),
    Gone("prefect.engine.flow_runner prefect.engine.task_runner prefect.engine.runner", _RUNNERS),
    Gone("prefect.engine.FlowRunner prefect.engine.TaskRunner", _RUNNERS),
    Gone(
        "prefect.engine.results.S3Result prefect.engine.results.GCSResult prefect.engine.results.AzureResult "
        "prefect.results.S3Result prefect.results.GCSResult prefect.results.AzureResult",
        "write FSResult('s3://bucket/folder'), 'gs://...' or 'abfs://...', of prefectish.results",
    ),
    Gone(
        "prefect.engine.results.PrefectResult prefect.engine.results.ConstantResult "
        "prefect.engine.results.SecretResult prefect.engine.result.NoResult "
        "prefect.engine.result.NoResultType prefect.engine.result_handlers",
        "write LocalResult or FSResult of prefectish.results; small results need no store",
    ),
    Gone("prefect.engine.serializers", "write a class with serialize and deserialize, as LocalResult(serializer=...)"),
    Gone("prefect.tasks.core.operators", "use operators on tasks: x + y, x[0]; x.not_()"),
    Gone("prefect.utilities.tasks.defaults_from_attrs", "give run(self, x=None) a default, and read self.x in it"),
    Gone("prefect.utilities.tasks.as_task", "write prefectish.tasks.Constant(x)"),
    Gone("prefect.utilities.configuration", "write `with prefectish.context(...)`, or set PREFECTISH_... variables"),
    Gone("prefect.config prefect.configuration", _SETTINGS),
    Gone("prefect.exceptions", _ERRORS),
    Gone("prefect.engine.result.base prefect.engine.results.constant_result prefect.engine.results.prefect_result "
         "prefect.engine.results.s3_result prefect.engine.results.gcs_result prefect.engine.results.azure_result "
         "prefect.engine.results.secret_result",
         _KEEP),
    Gone("prefect.engine.state.ClientFailed prefect.engine.get_default_flow_runner_class "
         "prefect.engine.get_default_task_runner_class prefect.engine.get_default_executor_class "
         "prefect.core.task.TaskMetaclass prefect.core.parameter.no_default prefect.utilities.edges.EdgeAnnotation "
         "prefect.utilities.context.Context prefect.tasks.core.resource_manager.ResourceManager "
         "prefect.tasks.core.resource_manager.ResourceContext", "it has no counterpart: leave it out"),
    Gone("prefect.schedules.RRuleSchedule prefect.schedules.schedules.RRuleSchedule",
         "write Schedule([RRuleClock(rule)]) of prefectish.schedules"),
    Gone("prefect.utilities.collections prefect.utilities.graphql prefect.utilities.importtools "
         "prefect.utilities.executors prefect.utilities.filesystems prefect.tasks.files.Copy prefect.tasks.files.Glob "
         "prefect.tasks.files.Move prefect.tasks.files.Remove prefect.tasks.files.Unzip prefect.tasks.files.Zip "
         "prefect.tasks.files.compression prefect.tasks.files.operations prefect.tasks.templates "
         "prefect.utilities.debug.is_serializable", "write it with the standard library"),
    Gone("prefect.tasks.database", "write SQLTask of prefectish.tasks.sql"),
    Gone("prefect.utilities.logging", "write prefectish.get_logger(), and the settings of the module logging"),
    Gone("prefect.utilities.notifications.slack_message_formatter "
         "prefect.utilities.notifications.email_message_formatter "
         "prefect.utilities.notifications.notifications.slack_message_formatter "
         "prefect.utilities.notifications.notifications.email_message_formatter",
         "write a state handler that sends what it likes: callback_factory of prefectish.engine.handlers"),
    Gone("prefect.utilities.storage", "write flow.deploy(project); a flow is loaded anew from its file"),
    Gone("prefect.utilities.diagnostics", "write `prefectish --version`"),
    Gone("prefect.utilities.exceptions", _ERRORS),
    Gone("prefect.agent", "write `prefectish agent start`"),
    Gone("prefect.models", _REGISTRY),
    Gone("prefect.serialization", "write flow.deploy(project); a flow is loaded anew from its file"),
    Gone("prefect.contrib prefect.tasks.aws prefect.tasks.gcp prefect.tasks.azure prefect.tasks.azureml "
         "prefect.tasks.snowflake prefect.tasks.databricks prefect.tasks.dbt prefect.tasks.docker "
         "prefect.tasks.kubernetes prefect.tasks.postgres prefect.tasks.mysql prefect.tasks.great_expectations "
         "prefect.tasks.airbyte prefect.tasks.fivetran prefect.tasks.github prefect.tasks.redis "
         "prefect.tasks.jupyter prefect.tasks.dask prefect.tasks.google prefect.tasks.gsheets "
         "prefect.tasks.airtable prefect.tasks.asana prefect.tasks.census prefect.tasks.cubejs "
         "prefect.tasks.dremio prefect.tasks.dropbox prefect.tasks.exasol prefect.tasks.firebolt "
         "prefect.tasks.hightouch prefect.tasks.jira prefect.tasks.kafka prefect.tasks.mixpanel "
         "prefect.tasks.monday prefect.tasks.neo4j prefect.tasks.prometheus prefect.tasks.rss "
         "prefect.tasks.segment prefect.tasks.sendgrid prefect.tasks.sodasql prefect.tasks.sodaspark "
         "prefect.tasks.spacy prefect.tasks.sql_server prefect.tasks.toloka prefect.tasks.transform "
         "prefect.tasks.trello prefect.tasks.twitter prefect.tasks.zendesk",
         "write a task that calls the service's own client"),
    Gone("prefect.utilities.git prefect.utilities.docker_util prefect.utilities.gcp prefect.utilities.aws",
         "call the service's own client, or the command"),
    Gone("prefect.utilities.agent prefect.utilities.jupyter prefect.utilities.compatibility", "leave it out"),
    Gone("prefect.plugins", "import what a plug-in gives"),
    Gone("prefect.engine.cloud", "write flow.run(...): each run is recorded in the history"),
    # Prefect 2 and 3
    Gone("prefect.blocks prefect.filesystems", "write a plain object, and prefectish.Secret for what is secret", True),
    Gone("prefect.artifacts", "log it, or return it with a result store; `prefectish report` shows a run", True),
    Gone("prefect.variables", "write a Parameter, an argument of the flow, or an environment variable", True),
    Gone("prefect.transactions", "write a result store: `flow.resume` runs what has not ended", True),
    Gone("prefect.concurrency", "write @task(max_concurrency=..., rate=..., shared_limits={...})", True),
    Gone("prefect.runtime prefect.context.get_run_context prefect.context.FlowRunContext "
         "prefect.context.TaskRunContext", _FACTS, True),
    Gone("prefect.deployments prefect.deploy prefect.runner prefect.workers prefect.infrastructure prefect.docker "
         "prefect.flow_runners", _DEPLOY, True),
    Gone("prefect.deployments.run_deployment", _RUN_FLOW, True),
    Gone("prefect.states.Completed", "write Success(message, result=data) of prefectish.engine.state", True),
    Gone("prefect.states", "write the states of prefectish.engine.state, result= for data=", True),
    Gone("prefect.results prefect.serializers", _KEEP, True),
    Gone("prefect.task_runners.ProcessPoolTaskRunner", "write LocalDaskExecutor(scheduler='processes')", True),
    Gone("prefect.futures.PrefectFuture", "write prefectish.functions.TaskFuture", True),
    Gone("prefect.cache_policies prefect.cache_policies.DEFAULT prefect.cache_policies.RUN_ID "
         "prefect.cache_policies.FLOW_PARAMETERS prefect.cache_policies.NONE "
         "prefect.cache_policies.CacheKeyFnPolicy prefect.cache_policies.CompoundCachePolicy",
         "write INPUTS, TASK_SOURCE, NO_CACHE or a sum of them, or cache_key_fn=", True),
    Gone("prefect.results.ResultStore prefect.results.ResultRecord prefect.results.PersistedResult "
         "prefect.results.ResultFactory prefect.results.UnpersistedResult prefect.results.get_result_store",
         _KEEP, True),
    Gone("prefect.locking", "computations of equal keys of one run wait for the first of them; leave it out", True),
    Gone("prefect.task_worker prefect.background_tasks", _IN_THE_BACKGROUND, True),
    Gone("prefect.types", "write the types of Python or pydantic", True),
    Gone("prefect.utilities.asyncutils prefect.utilities.callables prefect.utilities.hashing "
         "prefect.utilities.timeout prefect.utilities.pydantic prefect.utilities.visualization "
         "prefect.utilities.processutils", "write it with the standard library", True),
    Gone("prefect.schedules.Cron prefect.schedules.Interval prefect.schedules.RRule", "write CronSchedule or "
         "IntervalSchedule of prefectish.schedules", True),
    Gone("prefect.pause_flow_run prefect.suspend_flow_run prefect.input prefect.flow_runs",
         "write pause_task() in a task; `prefectish approve` resumes it", True),
    Gone("prefect.get_client prefect.server prefect.orion", _REGISTRY, True),
    Gone("prefect.events prefect.automations", "write on_completion=, on_failure= or state_handlers=", True),
    Gone("prefect.settings", _SETTINGS, True),
    Gone("prefect.testing.utilities", "leave it out: history=False records nothing, see prefectish.testing", True),
    Gone("prefect.quote prefect.utilities.annotations.quote", "leave it out: arguments are not searched", True),
    Gone("prefect.client.schemas prefect.server.schemas.schedules", "write CronSchedule or IntervalSchedule of "
         "prefectish.schedules", True),
    Gone("prefect.assets prefect.logging.disable_run_logger", "leave it out", True),
    Gone("prefect.aserve", "write prefectish.serve(flow)", True),
    Gone("prefect.Transaction", "write a result store: `flow.resume` runs what has not ended", True),
    Gone("prefect.resume_flow_run", "write `prefectish approve`, or prefectish.history.run(run_id).approve(...)", True),
)  # fmt: skip

#: Attributes and options of flows in Prefect 1.
OF_FLOWS: Mapping[str, str] = {
    "storage": _CODE,
    "run_config": _PLACES,
    "environment": _PLACES,
    "run_agent": "write `prefectish agent start`",
    "save": "a flow is loaded anew from its file: flow.deploy(project)",
    "serialize": "a flow is loaded anew from its file: flow.deploy(project)",
    "serialized_hash": "write flow.version, a hash of its tasks and code",
    "result_handler": _KEEP,
    "edge_check": "leave it out",
}

#: Options of tasks, and of flows as functions, that are not here, most of them of Prefect 2 and 3.
OPTIONS: Mapping[str, str] = {
    "cache_result_in_memory": "results stay in memory as long as they are needed; leave it out",
    "on_cancellation": "write state_handlers=[...], called with (object, old state, new state)",
    "on_commit": "there are no transactions; write on_completion=[...]",
    "on_crashed": "write state_handlers=[...], called with (object, old state, new state)",
    "on_rollback": "there are no transactions; write on_failure=[...]",
    "on_running": "write state_handlers=[...], called with (object, old state, new state)",
    "result_handler": _KEEP,
    "result_serializer": "write result=LocalResult(..., serializer=...)",
    "result_storage": "write result=LocalResult(...), or FSResult(...)",
    "result_storage_key": "write target=..., or result=LocalResult(..., location=...)",
    "version": "a version is the hash of the code; leave it out",
    "viz_return_value": "leave it out: nothing has to run for a picture",
}

_BY_EVENT = "write state_handlers=[...], called with (object, old state, new state)"
_FLOW_IN_A_TASK = "call the flow in a task, and submit or map that"

#: Attributes of objects of Prefect 2 and 3 that ours do not have.
ATTRIBUTES: Mapping[str, Mapping[str, str]] = {
    "task": {
        **dict.fromkeys(("delay", "apply_async", "serve", "aserve"), _IN_THE_BACKGROUND),
        **dict.fromkeys(("on_running", "on_commit", "on_rollback", "on_crashed"), _BY_EVENT),
        "retries": "write task.max_retries",
        "retry_delay_seconds": "write task.retry_delay",
        "retry_jitter_factor": "write task.retry_jitter",
        "timeout_seconds": "write task.timeout",
        "log_prints": "write task.log_stdout",
        "persist_result": "write task.checkpoint",
        "cache_policy": "write task.cache_key_fn",
        "task_key": "write task.name",
        "isasync": "write inspect.iscoroutinefunction(task.fn)",
    },
    "flow": {
        **dict.fromkeys(("to_deployment", "ato_deployment", "from_source", "afrom_source"), _DEPLOY),
        **dict.fromkeys(("on_running", "on_cancellation", "on_crashed"), _BY_EVENT),
        **dict.fromkeys(("submit", "map", "delay"), _FLOW_IN_A_TASK),
        "serve": "write prefectish.serve(flow)",
        "retries": "write flow.with_options(retries=...)",
        "retry_delay_seconds": "write flow.with_options(retry_delay_seconds=...)",
        "timeout_seconds": "write flow.with_options(timeout_seconds=...)",
        "task_runner": "write flow.with_options(task_runner=...)",
        "flow_run_name": "write flow.run_name",
        "tags": "tasks have tags, and `with tags(...)` around a call gives them some",
        "isasync": "write flow.is_async",
        "isgenerator": "write flow.is_generator",
        "persist_result": "write flow.result, the store of its results",
    },
    "future": {
        "get_state": "write future.state",
        "task_run_id": "write future.name; in the body it is context.task_run_id",
        "aresult": "write await future",
        "get": "write future.result()",
        "value": "write future.result()",
        "wait_async": "write await future",
    },
    "state": {
        "name": "write type(state).__name__",
        "type": "write type(state), or ask is_completed(), is_failed() and others",
        "data": "write state.result",
        "aresult": "write state.result",
        "get_result": "write state.result",
        "raise_for_status": "write state.result, an exception if state.is_failed()",
        "timestamp": "prefectish.history has when tasks began and ended",
        "state_details": "write state.context",
        "fresh_copy": "a state does not change: write state.replace(...) for one that differs",
    },
    "context": {
        "flow_run": "write context.flow_run_id, context.flow_run_name and others",
        "task_run": "write context.task_run_id, context.task_run_name, context.task_run_count and others",
        "deployment": "write prefectish.deployments()",
        "run_count": "write context.task_run_count",
        "start_time": "write context.scheduled_start_time",
        "tags": "write context.task_tags",
        "task": "write context.task_name",
        "flow": "write context.flow_name",
        "task_runner": "the executor says where tasks run",
    },
}


def instead_of(kind: str, name: str) -> str:
    """Return the way out for an attribute of Prefect's object of a kind, empty for any other name."""
    instead = ATTRIBUTES[kind].get(name) or (OPTIONS.get(name) if kind in ("task", "flow") else None)
    return f"; {instead}" if instead else ""


class Place(NamedTuple):
    """Where a name is here."""

    module: str
    name: str


@cache
def places() -> Mapping[str, Mapping[str, Place]]:
    """Return the names that are here, by modules of Prefect."""
    found: dict[str, dict[str, Place]] = {}
    for module, parts in (*PLACES.items(), *LATER_PLACES.items()):
        names = found.setdefault(module, {})
        for ours, text in parts.items():
            for word in text.split():
                theirs, _, other = word.partition("=")
                names[theirs] = Place(ours, other or theirs)
    return found


@cache
def gone() -> Mapping[str, Gone]:
    """Return the way out by each dotted name of Prefect; of names that Prefect 1 and later ones have, the former's."""
    return {name: row for row in reversed(GONE) for name in row.names.split()}


def way_out(name: str) -> Gone | None:
    """Return what to do about a dotted name of Prefect that is not here: its own, or that of a module around it."""
    while name:
        if (row := gone().get(name)) is not None:
            return row
        name = name.rpartition(".")[0]
    return None


def error_of(module: str, name: str) -> ImportError | AttributeError:
    """Return the error about a name that a module does not have; it leads out, if Prefect has the name."""
    theirs = _theirs(module)
    place = places().get(theirs, {}).get(name)
    if place is not None and place != (module, name):
        renamed = "" if place.name == name else f", as {place.name}"
        written = f"`from {place.module} import {place.name}`"
        return ImportError(f"{name} is in {place.module}{renamed}: write {written}", name=module)
    wanted = f"{theirs}.{name}"
    if wanted in gone() and not _is_here(f"{module}.{name}"):
        return ImportError(f"{module} has no {name}: {gone()[wanted].instead}{_COMMAND}", name=module)
    if wanted in places() and not _is_here(f"{module}.{name}"):
        return ImportError(missing_module(f"{module}.{name}"), name=module)
    if theirs == "prefect" and (elsewhere := _elsewhere(name)) is not None and not _is_here(f"{module}.{name}"):
        return ImportError(f"{module} has no {name}: {elsewhere}{_COMMAND}", name=module)
    from difflib import get_close_matches

    own = getattr(sys.modules.get(module), "__dict__", {})
    near = get_close_matches(name, (*own.get("__all__", ()), *own.get("_ELSEWHERE", ())), 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return AttributeError(f"module {module!r} has no attribute {name!r}{hint}")


def _elsewhere(name: str) -> str | None:
    """Return the way out for a name of a module in Prefect 2 or 3, by the name alone."""
    for row in GONE:
        if row.later and any(each.rpartition(".")[2] == name and each.count(".") > 1 for each in row.names.split()):
            return row.instead
    for parts in LATER_PLACES.values():
        for ours, words in parts.items():
            for theirs, _, other in (word.partition("=") for word in words.split()):
                if theirs == name:
                    return f"write `from {ours} import {other or theirs}`"
    return None


def missing_module(name: str) -> str | None:
    """Return the message about a module of prefectish that is not here; None if Prefect has none of this name."""
    theirs = _theirs(name)
    below = f"{theirs}."
    ways = [f"write {imports}"] if (imports := _imports(theirs)) else []
    for row in GONE:
        if inside := [each.removeprefix(below) for each in row.names.split() if each.startswith(below)]:
            ways.append(f"for {', '.join(inside)}: {row.instead}")
    if (row_of_module := way_out(theirs)) is not None:
        ways.append(f"{'for the rest: ' if ways else ''}{row_of_module.instead}")
    return f"No module named {name!r}: {'; '.join(ways)}{_COMMAND}" if ways else None


def _imports(theirs: str) -> str:
    """Return the statements that import what a module of Prefect, or one in it, has and we have, too."""
    names: dict[str, set[str]] = {}
    for module, found in places().items():
        if f"{module}.".startswith(f"{theirs}."):
            for place in found.values():
                names.setdefault(place.module, set()).add(place.name)
    return ", or ".join(f"`from {module} import {', '.join(sorted(found))}`" for module, found in names.items())


def _theirs(module: str) -> str:
    return module.replace("prefectish", "prefect", 1)


def _is_here(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
