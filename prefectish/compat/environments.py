"""`prefect.environments`, which there were before run configs, and what is said of all that is not used here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from prefectish.compat.run_configs import LocalRun, UniversalRun, label_set
from prefectish.engine.context import get_logger

_said: set[tuple[str, str]] = set()


class Environment:
    """Where a flow would run: it keeps the arguments by name.

    Parameters
    ----------
    *args, **kwargs
        As they were there; those that are given by position have the names `positional`.
    """

    positional: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if len(args) > len(self.positional):
            raise TypeError(
                f"{type(self).__name__} takes at most {len(self.positional)} arguments by position, got {len(args)}"
            )
        given = {**dict.fromkeys(self.positional), **dict(zip(self.positional, args, strict=False)), **kwargs}
        for name, value in given.items():
            setattr(self, name, value)
        self.labels = label_set(given.get("labels"))

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"


def _kinds(table: Mapping[str, str]) -> dict[str, type[Environment]]:
    doc = Environment.__doc__
    return {
        name: type(name, (Environment,), {"positional": tuple(text.split()), "__module__": __name__, "__doc__": doc})
        for name, text in table.items()
    }


#: The kinds, with the arguments that can be given by position.
ENVIRONMENTS = _kinds(
    {
        "LocalEnvironment": "executor labels",
        "RemoteEnvironment": "executor executor_kwargs labels",
        "RemoteDaskEnvironment": "address",
        "DaskKubernetesEnvironment": "min_workers max_workers",
        "DaskCloudProviderEnvironment": "provider_class",
        "FargateTaskEnvironment": "launch_type",
        "KubernetesJobEnvironment": "job_spec_file",
    }
)
globals().update(ENVIRONMENTS)
#: Kinds that say nothing else than what holds here anyway.
_USUAL = ("Local", "Module", "LocalEnvironment", "RemoteEnvironment")


def say_what_is_ignored(flow: Any) -> None:
    """Log, once for each flow and kind, what of its storage and run config means nothing here."""
    ways = {
        "storage": "code is not stored here: the flow runs from its file",
        "run_config": "the flow runs on this machine, or, deployed, where its agent is",
        "environment": "the flow runs on this machine, or, deployed, where its agent is",
    }
    for name, way in ways.items():
        given = getattr(flow, name, None)
        kind = type(given).__name__
        usual = given is None or kind in _USUAL or isinstance(given, UniversalRun | LocalRun)
        if usual or (flow.name, kind) in _said:
            continue
        _said.add((flow.name, kind))
        get_logger("compat").warning("%s=%s(...) of flow %r is ignored: %s", name, kind, flow.name, way)
