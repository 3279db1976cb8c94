"""`prefect.config`: the settings of Prefect 1 that mean something here, and `set_temporary_config`.

They live in the process; what they decide is read where a task or a flow is made, or a run begins.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from prefectish import config as settings
from prefectish.compat.collections import (
    CompoundKey,
    DotDict,
    as_nested_dict,
    dict_to_flatdict,
    flatdict_to_dict,
    merge_dicts,
)

#: The release whose public names these are.
__version__ = "1.4.1"
#: Defaults of the settings, as in Prefect 1.
DEFAULTS: Mapping[str, Any] = {
    "debug": False,
    "backend": "server",
    "home_dir": os.path.expanduser("~/.prefect"),
    "logging": {
        "level": "INFO", "format": "[%(asctime)s] %(levelname)s - %(name)s | %(message)s",
        "datefmt": "%Y-%m-%d %H:%M:%S%z", "log_attributes": [], "extra_loggers": [],
    },
    "flows": {
        "eager_edge_validation": False, "run_on_schedule": True, "checkpointing": False,
        "defaults": {"storage": {"add_default_labels": True, "default_class": "prefect.storage.Local"}},
    },
    "tasks": {
        "checkpointing": False,
        "defaults": {"max_retries": 0, "retry_delay": None, "timeout": None},
    },
    "engine": {
        "executor": {"default_class": "prefect.executors.LocalExecutor", "dask": {"address": "", "cluster_class": ""}},
        "flow_runner": {"default_class": "prefect.engine.flow_runner.FlowRunner"},
        "task_runner": {"default_class": "prefect.engine.task_runner.TaskRunner"},
    },
    "cloud": {
        "use_local_secrets": True, "api": "", "api_key": "", "tenant_id": "", "endpoint": "", "graphql": "",
        "request_timeout": 15, "heartbeat_interval": 30.0, "heartbeat_mode": "process",
        "check_cancellation_interval": 15.0, "queue_interval": 30.0, "logging_heartbeat": 5,
        "send_flow_run_logs": False, "diagnostics": False,
        "agent": {"name": "agent", "labels": [], "level": "INFO", "env_vars": {}, "max_polls": "", "agent_address": ""},
    },
    "server": {
        "host": "http://localhost", "port": 4200, "host_port": 4200, "endpoint": "http://localhost:4200",
        "ui": {"host": "http://localhost", "port": 8080, "endpoint": "http://localhost:8080"},
        "telemetry": {"enabled": False},
    },
    "context": {"secrets": {}},
}  # fmt: skip


class Config(DotDict):
    """Settings in sections, as attributes."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"Config object has no attribute {name!r}")

    def copy(self) -> Config:
        """Return a copy, of all sections in it too."""
        return type(self)({key: value.copy() if isinstance(value, Config) else value for key, value in self.items()})

    def get_nested(self, key: str, default: Any = None) -> Any:
        """Return a setting by a key such as ``"flows.run_on_schedule"``, or a default."""
        found: Any = self
        for part in key.split("."):
            if not isinstance(found, Mapping) or part not in found:
                return default
            found = found[part]
        return found

    def set_nested(self, key: str, value: Any) -> None:
        """Set a setting by a key such as ``"flows.run_on_schedule"``."""
        section: Any = self
        *sections, last = key.split(".")
        for name in sections:
            section = section.setdefault(name, type(self)())
        section[last] = value

    def setdefault_nested(self, key: str, value: Any) -> Any:
        """Set a setting that is not set yet, and return it."""
        if self.get_nested(key, _UNSET) is _UNSET:
            self.set_nested(key, value)
        return self.get_nested(key)


_UNSET = object()
#: Prefix of environment variables.
ENV_VAR_PREFIX = "PREFECT"
_REFERENCE = re.compile(r"\$\{(?P<key>[^${}]+)\}")


def string_to_type(val: str) -> Any:
    """Return what a text stands for: True, False, a number, another literal such as a list, or itself."""
    for word, meant in (("true", True), ("false", False)):
        if val.lower() == word:
            return meant
    for number in (int, float):
        try:
            return number(val)
        except ValueError:
            continue
    try:
        return ast.literal_eval(val)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return val


def interpolate_env_vars(env_var: str) -> Any:
    """Return a text with environment variables and ``~`` filled in; what has changed becomes what it stands for."""
    if not env_var or not isinstance(env_var, str):
        return env_var
    text = env_var
    for _ in range(10):
        filled = os.path.expanduser(os.path.expandvars(text))
        if filled == text:
            break
        text = filled
    return env_var if text == env_var else string_to_type(text)


def load_toml(path: str) -> dict[str, Any]:
    """Return the content of a TOML file, with environment variables filled in."""
    import tomllib

    with open(path, "rb") as file:
        found = tomllib.load(file)
    flat = {keys: interpolate_env_vars(value) for keys, value in dict_to_flatdict(found).items()}
    nested: dict[str, Any] = flatdict_to_dict(flat, dict)
    return nested


def interpolate_config(settings_: Mapping[str, Any], env_var_prefix: str | None = None) -> Config:
    """Return settings with environment variables in their place, and with values of other settings, ``${key}``."""
    flat = dict_to_flatdict(settings_)
    for name, text in os.environ.items() if env_var_prefix else ():
        prefix, found, key = name.partition("__")
        if prefix == env_var_prefix and found and key:
            keys = CompoundKey(
                part if "SECRETS__" in key and i > 1 else part.lower() for i, part in enumerate(key.split("__"))
            )
            for escaped, meant in (("\\n", "\n"), ("\\r", "\r"), ("\\t", "\t")):
                text = text.replace(escaped, meant)
            flat[keys] = string_to_type(str(interpolate_env_vars(text)))
    flat = {keys: interpolate_env_vars(value) for keys, value in flat.items()}
    for keys in flat:
        flat[keys] = _with_references(flat, flat[keys])
    sections: Config = as_nested_dict(_sections(settings_), Config)
    return merge_dicts(sections, flatdict_to_dict(flat, Config))


def _sections(settings_: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sections alone: one without settings has no key that leads to it."""
    return {name: _sections(value) for name, value in settings_.items() if isinstance(value, Mapping)}


def _with_references(flat: Mapping[CompoundKey, Any], value: Any) -> Any:
    for _ in range(10):
        found = _REFERENCE.search(value) if isinstance(value, str) else None
        if found is None:
            return value
        meant = flat.get(CompoundKey(found["key"].split(".")), "")
        value = meant if found.group() == value else value.replace(found.group(), str(meant))
    return value


def validate_config(config: Config) -> None:
    """Check the keys of settings, at any depth; a ValueError names one that is the name of a method of a dict."""
    invalid = set(dir(Config))
    for keys in dict_to_flatdict(config):
        for key in keys:
            if key in invalid:
                raise ValueError(f'Invalid config key: "{key}"')


def load_configuration(
    path: str,
    user_config_path: str | None = None,
    backend_config_path: str | None = None,
    env_var_prefix: str | None = None,
) -> Config:
    """Return the settings of a file, then of others that replace them, then of the environment."""
    found: dict[str, Any] = load_toml(path)
    for other in (user_config_path, backend_config_path):
        if other and os.path.isfile(interpolate_env_vars(other)):
            found = merge_dicts(found, load_toml(interpolate_env_vars(other)))
    loaded = interpolate_config(found, env_var_prefix)
    validate_config(loaded)
    return loaded


def load_default_config() -> Config:
    """Return the settings of this user: the defaults, those of the user's file, those of the environment."""
    path = os.environ.get("PREFECT__USER_CONFIG_PATH", os.path.expanduser("~/.prefect/config.toml"))
    found: dict[str, Any] = as_nested_dict(DEFAULTS, dict)
    if os.path.isfile(path):
        found = merge_dicts(found, load_toml(path))
    return process_task_defaults(interpolate_config(as_nested_dict(found, Config), ENV_VAR_PREFIX))


def to_environment_variables(
    config: Config, include: Iterable[str] | None = None, prefix: str = "PREFECT"
) -> dict[str, str]:
    """Return settings as environment variables; `include` has keys such as ``"a.b"``, by default all."""
    flat = {".".join(map(str, keys)): value for keys, value in dict_to_flatdict(config).items()}
    wanted = flat if include is None else [key for key in include if key in flat]
    return {f"{prefix}__{key.upper().replace('.', '__')}": str(flat[key]) for key in wanted}


def process_task_defaults(config: Config) -> Config:
    """Return settings with the defaults of tasks in the form in which tasks take them."""
    defaults = config.setdefault_nested("tasks.defaults", Config())
    defaults.setdefault("max_retries", 0)
    delay = defaults.setdefault("retry_delay", None)
    if isinstance(delay, int | float) and not isinstance(delay, bool):
        defaults.retry_delay = timedelta(seconds=delay)
    if not defaults.retry_delay:
        defaults.retry_delay = None
    if not defaults.setdefault("timeout", None):
        defaults.timeout = None
    return config


config = load_default_config()


def secret_of_settings(name: str, default: Any = None) -> Any:
    """Return a secret of the settings, ``[context.secrets]``, or a default."""
    return config.get_nested("context.secrets", {}).get(name, default)


@contextmanager
def set_temporary_config(temp_config: Mapping[str, Any]) -> Iterator[Config]:
    """Change settings in a `with` block.

    Parameters
    ----------
    temp_config
        Values by key: ``{"tasks.defaults.max_retries": 3}``, or nested.
    """
    before = config.copy()
    flat = {".".join(map(str, keys)): value for keys, value in dict_to_flatdict(temp_config).items()}
    switches = dict(settings.program_defaults)
    try:
        _copy_sections(config)
        for key, value in flat.items():
            config.set_nested(key, value)
        if "flows.run_on_schedule" in flat:
            settings.program_defaults["run_on_schedule"] = bool(flat["flows.run_on_schedule"])
        if "logging.extra_loggers" in flat:
            settings.program_defaults["extra_loggers"] = flat["logging.extra_loggers"]
        yield config
    finally:
        for key in list(config):
            del config[key]
        config.update(before)
        settings.program_defaults.clear()
        settings.program_defaults.update(switches)


def _copy_sections(section: Config) -> None:
    """Put copies in the place of the sections, so that what was there stays as it was."""
    for key, value in list(section.items()):
        if isinstance(value, Config):
            section[key] = copied = value.copy()
            assert isinstance(copied, Config)
            _copy_sections(copied)
