"""What flows of Prefect 1 have for registration; the database of the history stands in the place of the server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prefectish import flows
from prefectish.compat.environments import say_what_is_ignored
from prefectish.engine.context import get_logger
from prefectish.flow_source import is_loading


class Registered(flows.Flow):
    """A flow that can be registered, and keeps where it would be stored and run."""

    environment: Any = None
    run_config: Any = None
    storage: Any = None

    def register(  # type: ignore[override]  # the identifier is what it returned
        self,
        project_name: str | None = None,
        build: bool = True,
        labels: Iterable[str] | None = None,
        set_schedule_active: bool = True,
        version_group_id: str | None = None,
        no_url: bool = False,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> str:
        """Deploy the flow, and return the identifier of its version; a new version is made only for new content.

        Parameters
        ----------
        project_name
            The project; default: "default".
        build, labels, set_schedule_active
            As for :meth:`prefectish.Flow.deploy`; the labels of the run config count, too.
        version_group_id, no_url, idempotency_key, **kwargs
            Ignored.
        """
        if is_loading():
            _say_left_out(self, "register()")
            return ""
        from prefectish.compat.deployed import register

        return register(self, project_name, build, labels, set_schedule_active)

    def run_agent(self, **kwargs: Any) -> None:
        """Work as an agent for the labels of the flow, until Ctrl-C."""
        from prefectish.compat.deployed import start_agent

        start_agent(self)

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the flow; say once what of its storage and run config means nothing here."""
        if is_loading():
            _say_left_out(self, "run()")
            return None
        say_what_is_ignored(self)
        return super().run(*args, **kwargs)


def _say_left_out(flow: flows.Flow, what: str) -> None:
    text = (
        "%s of flow %r is left out while its file is loaded to run the flow; put it under `if __name__ == '__main__':`"
    )
    get_logger("compat").warning(text, what, flow.name)
