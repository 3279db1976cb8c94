"""`prefect.utilities.diagnostics`: what there is to tell of an installation and of a flow, as JSON without values."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from typing import Any

from prefectish.compat.configuration import DEFAULTS, ENV_VAR_PREFIX, __version__, config


def system_information() -> dict[str, Any]:
    """Return the platform and the versions."""
    return {
        "system_information": {
            "platform": platform.platform(),
            "prefect_backend": config.backend,
            "prefect_version": __version__,
            "python_version": platform.python_version(),
        }
    }


def config_overrides(include_secret_names: bool = False) -> dict[str, Any]:
    """Return which settings differ from their defaults: their names, with True for each."""
    return {"config_overrides": _changed(config, DEFAULTS, include_secret_names)}


def _changed(found: Mapping[str, Any], defaults: Any, secrets: bool) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    known = defaults if isinstance(defaults, Mapping) else {}
    for key, value in found.items():
        if key == "secrets" and not secrets:
            if value:
                changed[key] = False
        elif isinstance(value, Mapping):
            if below := _changed(value, known.get(key), secrets):
                changed[key] = below
        elif value != known.get(key):
            changed[key] = True
    return changed


def environment_variables() -> dict[str, Any]:
    """Return the names of the environment variables that are settings."""
    return {"env_vars": sorted(name for name in os.environ if name.startswith(f"{ENV_VAR_PREFIX}__"))}


def flow_information(flow: Any) -> dict[str, Any]:
    """Return which parts a flow has."""
    parts = ("environment", "storage", "result", "run_config", "schedule")
    found: dict[str, Any] = {
        name: {"type": type(part).__name__} for name in parts if (part := getattr(flow, name, None)) is not None
    }
    return {"flow_information": {**found, "task_count": len(flow.tasks)}}


def diagnostic_info(flow: Any = None, include_secret_names: bool = False) -> str:
    """Return all of it as JSON."""
    facts = {
        **config_overrides(include_secret_names),
        **environment_variables(),
        **system_information(),
        **({} if flow is None else flow_information(flow)),
    }
    return json.dumps(facts, sort_keys=True, indent=2)
