"""`prefect.config`: the settings of Prefect 1 that mean something here, and `set_temporary_config`.

They live in the process; what they decide is read where a task or a flow is made, or a run begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from prefectish import config as settings
from prefectish.compat.collections import DotDict, as_nested_dict, dict_to_flatdict

#: Defaults of the settings, as in Prefect 1.
DEFAULTS: Mapping[str, Any] = {
    "debug": False,
    "backend": "server",
    "home_dir": "~/.prefect",
    "logging": {"level": "INFO", "log_attributes": [], "extra_loggers": []},
    "flows": {"eager_edge_validation": False, "run_on_schedule": True, "checkpointing": False},
    "tasks": {
        "checkpointing": False,
        "defaults": {"max_retries": 0, "retry_delay": None, "timeout": None},
    },
    "engine": {
        "executor": {"default_class": "prefect.executors.LocalExecutor", "dask": {"address": "", "cluster_class": ""}},
        "flow_runner": {"default_class": "prefect.engine.flow_runner.FlowRunner"},
        "task_runner": {"default_class": "prefect.engine.task_runner.TaskRunner"},
    },
    "cloud": {"use_local_secrets": True, "api": "", "api_key": ""},
    "server": {},
    "context": {"secrets": {}},
}  # fmt: skip


class Config(DotDict):
    """Settings in sections, as attributes."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"Config object has no attribute {name!r}")

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
config: Config = as_nested_dict(DEFAULTS, Config)


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
