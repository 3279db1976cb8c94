"""The modules of Prefect 1.4.1 and what each of their names is here."""

from __future__ import annotations

from typing import NamedTuple


class Source(NamedTuple):
    """Where a name comes from: a module of this package, and the name in it; None for the module itself."""

    module: str
    name: str | None


def _table(*parts: tuple[str, str]) -> dict[str, Source]:
    """Return the names of a module.

    A part has a module of this package and names in it: ``Flow``, ``theirs=ours`` for another name,
    ``theirs=`` for the module itself.
    """
    names: dict[str, Source] = {}
    for module, text in parts:
        for word in text.split():
            theirs, equals, ours = word.partition("=")
            names[theirs] = Source(module, (ours or None) if equals else theirs)
    return names


_FLOW = ("prefectish.compat.flows", "Flow")
_TASK = ("prefectish.compat.tasks", "Task FunctionTask TaskMetaclass")
_PARAMETERS = ("prefectish.compat.parameters", "Parameter DateTimeParameter")
_LOGS = "configure_logging create_diagnostic_logger get_logger prefect_logger temporary_logger_config RedirectToLog"
_EDGE = ("prefectish.edges", "Edge")
_FILES = ("prefectish.compat.file_tasks", "Copy Glob Move Remove")
_ZIPS = ("prefectish.compat.file_tasks", "Zip Unzip")
_SQLITE = ("prefectish.compat.databases", "SQLiteQuery SQLiteScript")
_STATES = (
    "prefectish.engine.state",
    "State Pending Paused Scheduled Resume Retrying Queued Submitted Running Cancelling Finished Looped Success Cached "
    "Mapped Failed TimedOut TriggerFailed ValidationFailed Skipped Cancelled",
)
_SIGNALS = (
    "prefectish.engine.signals",
    "PrefectStateSignal=StateSignal FAIL TRIGGERFAIL VALIDATIONFAIL SUCCESS RETRY SKIP PAUSE LOOP ENDRUN "
    "TimeoutSignal signal_from_state",
)
_TRIGGERS = (
    "prefectish.triggers",
    "all_finished manual_only always_run all_successful all_failed any_successful any_failed some_failed "
    "some_successful not_all_skipped",
)
_CONTROL = ("prefectish.compat.library", "ifelse switch")
_MERGE = ("prefectish.compat.library", "case merge")
_FILTER = ("prefectish.compat.library", "FilterTask")
_RESOURCES = ("prefectish.compat.resources", "resource_manager ResourceManager ResourceContext")
_SECRETS = ("prefectish.tasks.secrets", "SecretBase")
_SECRET = ("prefectish.compat.library", "PrefectSecret EnvVarSecret")
_RESULTS = (
    "prefectish.compat.results",
    "LocalResult ConstantResult PrefectResult SecretResult S3Result GCSResult AzureResult",
)
_LOCAL = ("prefectish.executors.prefect1", "Executor LocalExecutor LocalDaskExecutor")
_DASK = ("prefectish.executors.prefect1_cluster", "DaskExecutor")
_SCHEDULES = ("prefectish.compat.schedules", "Schedule IntervalSchedule CronSchedule RRuleSchedule")
_CLOCKS = ("prefectish.compat.clocks", "Clock ClockEvent IntervalClock CronClock DatesClock RRuleClock")
_EDGES = ("prefectish.compat.edges", "mapped unmapped flatten EdgeAnnotation")
_NOTIFY = (
    "prefectish.compat.notifications",
    "slack_notifier gmail_notifier slack_message_formatter email_message_formatter",
)
_CALLBACK = ("prefectish.engine.handlers", "callback_factory")
_HELPERS = ("prefectish.compat.task_helpers", "task pause_task as_task defaults_from_attrs")

_STORAGES = (
    "prefectish.compat.storage",
    "Storage Local Module Docker S3 GCS Azure GitHub GitLab Bitbucket CodeCommit Git Webhook",
)
_RUN_CONFIGS = (
    "prefectish.compat.run_configs",
    "RunConfig UniversalRun LocalRun DockerRun KubernetesRun ECSRun VertexRun",
)
_ENVIRONMENTS = (
    "prefectish.compat.environments",
    "Environment LocalEnvironment RemoteEnvironment RemoteDaskEnvironment DaskKubernetesEnvironment "
    "DaskCloudProviderEnvironment FargateTaskEnvironment KubernetesJobEnvironment",
)
_KEY_VALUES = ("prefectish.compat.kv_store", "set_key_value get_key_value delete_key list_keys")
_ARTIFACTS = (
    "prefectish.compat.kv_store",
    "create_link_artifact create_markdown_artifact update_link_artifact update_markdown_artifact delete_artifact",
)
_FLOW_RUNS = (
    "prefectish.compat.flow_runs",
    "create_flow_run wait_for_flow_run get_task_run_result StartFlowRun CancelFlowRun RenameFlowRun",
)

_SCHEMAS = (
    "state=StateSchema edge=EdgeSchema schedule=ScheduleSchema storage=StorageSchema "
    "run_config=RunConfigSchema flow=FlowSchema"
)
#: Classes that have a module each: the name of the module, and of the class.
_PLACES = (
    "base=Storage local=Local module=Module docker=Docker s3=S3 gcs=GCS azure=Azure github=GitHub gitlab=GitLab "
    "bitbucket=Bitbucket codecommit=CodeCommit git=Git webhook=Webhook"
)
_RUNS = "local=LocalRun docker=DockerRun kubernetes=KubernetesRun ecs=ECSRun vertex=VertexRun"


def _one_each(package: str, module: str, text: str) -> dict[str, dict[str, Source]]:
    """Return modules below a package, with one class of a module of this package in each."""
    pairs = [word.partition("=") for word in text.split()]
    return {f"{package}.{theirs}": _table((module, ours)) for theirs, _, ours in pairs}


#: From the name of a module of Prefect 1 to its names.
MODULES: dict[str, dict[str, Source]] = {
    "prefect": _table(
        ("prefectish.compat.flows", "Flow"),
        ("prefectish.compat.tasks", "Task"),
        ("prefectish.compat.parameters", "Parameter"),
        ("prefectish.compat.task_helpers", "task"),
        ("prefectish.tasks.tagging", "tags"),
        ("prefectish.compat.edges", "mapped unmapped flatten"),
        ("prefectish.control_flow", "apply_map"),
        ("prefectish.compat.library", "case"),
        ("prefectish.compat.resources", "resource_manager"),
        ("prefectish.compat.context", "context"),
        ("prefectish.compat.configuration", "config __version__"),
        ("prefectish.compat.client", "Client"),
    ),
    "prefect.core": _table(_FLOW, ("prefectish.compat.tasks", "Task"), _PARAMETERS, _EDGE),
    "prefect.core.flow": _table(_FLOW, _EDGE, _PARAMETERS, ("prefectish.compat.tasks", "Task")),
    "prefect.core.task": _table(_TASK, ("prefectish.tasks.tagging", "tags")),
    "prefect.core.parameter": _table(_PARAMETERS, ("prefectish.compat.parameters", "no_default")),
    "prefect.core.edge": _table(_EDGE),
    "prefect.engine": _table(
        (
            "prefectish.compat.runners",
            "FlowRunner TaskRunner",
        ),
        (
            "prefectish.compat.default_classes",
            "get_default_executor_class get_default_flow_runner_class get_default_task_runner_class",
        ),
    ),
    "prefect.engine.runner": _table(("prefectish.compat.runners", "Runner"), ("prefectish.engine.signals", "ENDRUN")),
    "prefect.engine.flow_runner": _table(
        ("prefectish.compat.runners", "FlowRunner"), ("prefectish.engine.signals", "ENDRUN")
    ),
    "prefect.engine.task_runner": _table(
        ("prefectish.compat.runners", "TaskRunner"), ("prefectish.engine.signals", "ENDRUN")
    ),
    "prefect.engine.cloud": _table(
        ("prefectish.compat.runners", "CloudFlowRunner=FlowRunner CloudTaskRunner=TaskRunner")
    ),
    "prefect.engine.cloud.flow_runner": _table(("prefectish.compat.runners", "CloudFlowRunner=FlowRunner")),
    "prefect.engine.cloud.task_runner": _table(("prefectish.compat.runners", "CloudTaskRunner=TaskRunner")),
    "prefect.engine.state": _table(_STATES, ("prefectish.compat.states", "ClientFailed")),
    "prefect.engine.signals": _table(_SIGNALS, ("prefectish.engine.signals", "PrefectSignal=Signal")),
    "prefect.engine.cache_validators": _table(
        ("prefectish.caching.validators", "all_parameters duration_only never_use"),
        ("prefectish.compat.validators", "all_inputs partial_inputs_only partial_parameters_only"),
    ),
    "prefect.engine.result": _table(("prefectish.compat.results", "Result NoResult NoResultType")),
    "prefect.engine.result.base": _table(("prefectish.compat.results", "Result NoResult NoResultType")),
    "prefect.engine.results": _table(_RESULTS),
    "prefect.engine.results.local_result": _table(("prefectish.compat.results", "LocalResult")),
    "prefect.engine.results.constant_result": _table(("prefectish.compat.results", "ConstantResult")),
    "prefect.engine.results.s3_result": _table(("prefectish.compat.results", "S3Result")),
    "prefect.engine.results.gcs_result": _table(("prefectish.compat.results", "GCSResult")),
    "prefect.engine.results.azure_result": _table(("prefectish.compat.results", "AzureResult")),
    "prefect.engine.results.secret_result": _table(("prefectish.compat.results", "SecretResult")),
    "prefect.engine.results.prefect_result": _table(("prefectish.compat.results", "PrefectResult")),
    "prefect.engine.serializers": _table(
        (
            "prefectish.compat.serializers",
            "Serializer PickleSerializer JSONSerializer DateTimeSerializer PandasSerializer CompressedSerializer",
        )
    ),
    "prefect.executors": _table(_LOCAL, _DASK),
    "prefect.executors.base": _table(("prefectish.executors.prefect1", "Executor")),
    "prefect.executors.local": _table(("prefectish.executors.prefect1", "LocalExecutor")),
    "prefect.executors.dask": _table(("prefectish.executors.prefect1", "LocalDaskExecutor"), _DASK),
    "prefect.engine.executors": _table(_LOCAL, _DASK),
    "prefect.engine.executors.base": _table(("prefectish.executors.prefect1", "Executor")),
    "prefect.engine.executors.local": _table(("prefectish.executors.prefect1", "LocalExecutor")),
    "prefect.engine.executors.dask": _table(("prefectish.executors.prefect1", "LocalDaskExecutor"), _DASK),
    "prefect.tasks": _table(),
    "prefect.tasks.core": _table(),
    "prefect.tasks.core.constants": _table(("prefectish.tasks.collections", "Constant")),
    "prefect.tasks.core.collections": _table(("prefectish.tasks.collections", "List Tuple Set Dict")),
    "prefect.tasks.core.function": _table(("prefectish.compat.tasks", "FunctionTask")),
    "prefect.tasks.core.operators": _table(
        (
            "prefectish.compat.tasks",
            "GetItem GetAttr Add Sub Mul Div FloorDiv Mod Pow And Or Not Equal NotEqual GreaterThan GreaterThanOrEqual "
            "LessThan LessThanOrEqual",
        )
    ),
    "prefect.tasks.core.resource_manager": _table(_RESOURCES),
    "prefect.tasks.control_flow": _table(_CONTROL, _MERGE, _FILTER),
    "prefect.tasks.control_flow.case": _table(("prefectish.compat.library", "case")),
    "prefect.tasks.control_flow.conditional": _table(
        ("prefectish.compat.library", "CompareValue Merge ifelse merge switch"),
    ),
    "prefect.tasks.control_flow.filter": _table(_FILTER),
    "prefect.tasks.secrets": _table(_SECRETS, _SECRET),
    "prefect.tasks.secrets.base": _table(("prefectish.tasks.secrets", "SecretBase"), _SECRET),
    "prefect.tasks.secrets.env_var": _table(("prefectish.compat.library", "EnvVarSecret")),
    "prefect.tasks.templates": _table(("prefectish.compat.templates", "StringFormatter JinjaTemplate")),
    "prefect.tasks.templates.strings": _table(("prefectish.compat.templates", "StringFormatter")),
    "prefect.tasks.templates.jinja2": _table(("prefectish.compat.templates", "JinjaTemplate")),
    "prefect.tasks.files": _table(_FILES, _ZIPS),
    "prefect.tasks.files.compression": _table(_ZIPS),
    "prefect.tasks.files.operations": _table(_FILES),
    "prefect.tasks.database": _table(_SQLITE),
    "prefect.tasks.database.sqlite": _table(_SQLITE),
    "prefect.tasks.shell": _table(("prefectish.compat.service_tasks", "ShellTask")),
    "prefect.tasks.notifications": _table(("prefectish.compat.service_tasks", "SlackTask EmailTask")),
    **_one_each(
        "prefect.tasks.notifications", "prefectish.compat.service_tasks", "slack_task=SlackTask email_task=EmailTask"
    ),
    "prefect.schedules": _table(
        _SCHEDULES,
        ("prefectish.compat.clocks", "clocks="),
        ("prefectish.schedules.filters", "filters="),
        ("prefectish.schedules.adjustments", "adjustments="),
    ),
    "prefect.schedules.schedules": _table(_SCHEDULES),
    "prefect.schedules.clocks": _table(_CLOCKS),
    "prefect.schedules.filters": _table(
        (
            "prefectish.schedules.filters",
            "on_datetime on_date at_time between_datetimes between_times between_dates is_weekday is_weekend "
            "is_month_end is_month_start is_day_of_week",
        )
    ),
    "prefect.schedules.adjustments": _table(("prefectish.schedules.adjustments", "add next_weekday")),
    "prefect.triggers": _table(_TRIGGERS),
    "prefect.exceptions": _table(
        (
            "prefectish.compat.exceptions",
            "PrefectException PrefectSignal ClientError VersionLockMismatchSignal AuthorizationError "
            "FlowStorageError TaskTimeoutSignal TaskTimeoutError ObjectNotFoundError",
        )
    ),
    "prefect.configuration": _table(
        (
            "prefectish.compat.configuration",
            "Config config load_configuration load_toml interpolate_env_vars interpolate_config string_to_type "
            "validate_config to_environment_variables process_task_defaults load_default_config ENV_VAR_PREFIX",
        )
    ),
    "prefect.utilities": _table(),
    "prefect.utilities.tasks": _table(
        _HELPERS,
        ("prefectish.tasks.tagging", "tags"),
        ("prefectish.compat.edges", "unmapped"),
        ("prefectish.control_flow", "apply_map"),
    ),
    "prefect.utilities.edges": _table(_EDGES),
    "prefect.utilities.collections": _table(
        (
            "prefectish.compat.collections",
            "DotDict merge_dicts as_nested_dict dict_to_flatdict flatdict_to_dict CompoundKey flatten_seq",
        )
    ),
    "prefect.utilities.configuration": _table(("prefectish.compat.configuration", "set_temporary_config")),
    "prefect.utilities.context": _table(("prefectish.compat.context", "Context context")),
    "prefect.utilities.debug": _table(
        ("prefectish.engine.context", "raise_on_exception"), ("prefectish.compat.task_helpers", "is_serializable")
    ),
    "prefect.utilities.logging": _table(("prefectish.compat.logs", _LOGS)),
    "prefect.utilities.notifications": _table(_NOTIFY, _CALLBACK),
    "prefect.utilities.notifications.notifications": _table(_NOTIFY, _CALLBACK),
    "prefect.utilities.storage": _table(
        (
            "prefectish.compat.flow_files",
            "extract_flow_from_file extract_flow_from_module flow_from_bytes_pickle flow_to_bytes_pickle",
        )
    ),
    "prefect.utilities.filesystems": _table(("prefectish.compat.flow_files", "parse_path read_bytes_from_path")),
    "prefect.utilities.graphql": _table(
        (
            "prefectish.compat.graphql",
            "EnumValue GQLObject LiteralSetValue compress decompress parse_graphql parse_graphql_arguments with_args",
        )
    ),
    "prefect.utilities.importtools": _table(("prefectish.compat.task_helpers", "import_object")),
    "prefect.utilities.diagnostics": _table(
        (
            "prefectish.compat.diagnostics",
            "config_overrides diagnostic_info environment_variables flow_information system_information",
        )
    ),
    "prefect.utilities.executors": _table(
        ("prefectish.compat.task_helpers", "RecursiveCall tail_recursive"),
        (
            "prefectish.compat.runners",
            "run_task_with_timeout run_with_multiprocess_timeout run_with_thread_timeout",
        ),
    ),
    "prefect.utilities.exceptions": _table(
        (
            "prefectish.compat.exceptions",
            "PrefectError ClientError AuthorizationError StorageError TaskTimeoutError "
            "VersionLockError=VersionLockMismatchSignal",
        )
    ),
    # What there was a server for.
    "prefect.storage": _table(_STORAGES, ("prefectish.compat.default_classes", "get_default_storage_class")),
    **_one_each("prefect.storage", "prefectish.compat.storage", _PLACES),
    "prefect.run_configs": _table(_RUN_CONFIGS),
    "prefect.run_configs.base": _table(("prefectish.compat.run_configs", "RunConfig UniversalRun")),
    **_one_each("prefect.run_configs", "prefectish.compat.run_configs", _RUNS),
    "prefect.environments": _table(_ENVIRONMENTS),
    "prefect.environments.execution": _table(_ENVIRONMENTS),
    "prefect.environments.storage": _table(_STORAGES),
    "prefect.client": _table(("prefectish.compat.client", "Client"), ("prefectish.compat.library", "Secret")),
    "prefect.client.client": _table(("prefectish.compat.client", "Client FlowRunInfoResult TaskRunInfoResult")),
    "prefect.client.secrets": _table(("prefectish.compat.library", "Secret")),
    "prefect.serialization": _table(),
    **_one_each("prefect.serialization", "prefectish.compat.serialization", _SCHEMAS),
    "prefect.serialization.task": _table(("prefectish.compat.serialization", "TaskSchema ParameterSchema")),
    "prefect.backend": _table(
        ("prefectish.compat.deployed", "FlowRunView FlowView TaskRunView"), _KEY_VALUES, _ARTIFACTS
    ),
    "prefect.backend.flow": _table(("prefectish.compat.deployed", "FlowView")),
    "prefect.backend.flow_run": _table(
        ("prefectish.compat.deployed", "FlowRunLog FlowRunView watch_flow_run"),
    ),
    "prefect.backend.task_run": _table(("prefectish.compat.deployed", "TaskRunView")),
    "prefect.backend.kv_store": _table(_KEY_VALUES),
    "prefect.backend.artifacts": _table(_ARTIFACTS),
    "prefect.artifacts": _table(
        (
            "prefectish.compat.kv_store",
            "create_link=create_link_artifact create_markdown=create_markdown_artifact delete_artifact "
            "update_link=update_link_artifact update_markdown=update_markdown_artifact",
        )
    ),
    "prefect.tasks.prefect": _table(_FLOW_RUNS),
    "prefect.tasks.prefect.flow_run": _table(_FLOW_RUNS),
    "prefect.tasks.prefect.flow_run_rename": _table(("prefectish.compat.flow_runs", "RenameFlowRun")),
    "prefect.tasks.prefect.flow_run_cancel": _table(("prefectish.compat.flow_runs", "CancelFlowRun")),
}
