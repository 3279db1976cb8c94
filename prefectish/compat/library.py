"""Tasks that took other arguments: secrets without a name, and a filter that logs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from prefectish.compat.tasks import Task
from prefectish.control_flow import branches
from prefectish.control_flow.blocks import active_flow
from prefectish.engine.context import current
from prefectish.engine.signals import SKIP
from prefectish.secrets.store import find
from prefectish.tasks import control_flow, secrets
from prefectish.triggers import all_finished


class PrefectSecret(secrets.Secret):
    """A secret by its name; see :class:`prefectish.Secret`.

    Parameters
    ----------
    name
        None for a secret that a subclass names.
    **kwargs
        As for a task.
    """

    def __init__(self, name: str | None = None, **kwargs: Any) -> None:
        kwargs.setdefault("checkpoint", False)
        super().__init__(name or type(self).__name__, **kwargs)
        if name is None:
            self.secret_name = ""

    def run(self, name: str | None = None) -> Any:
        """Return the value; a ValueError if no name is given, or it is not known."""
        wanted = name or self.secret_name
        if not wanted:
            raise ValueError("A secret name must be provided.")
        return super().run() if wanted == self.secret_name else PrefectSecret(wanted).run()


class Secret:
    """The value of a secret by its name, of `prefect.client`: no task, unlike :class:`prefectish.Secret`.

    Parameters
    ----------
    name
        The name.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def get(self) -> Any:
        """Return the value; a ValueError if it is not known, or a flow is being built."""
        if current().get("flow") is not None:
            raise ValueError(
                "Secrets should only be retrieved during a Flow run, not while building a Flow: use PrefectSecret"
            )
        return find(self.name)

    def exists(self) -> bool:
        """Whether there is such a secret."""
        try:
            self.get()
        except ValueError:
            return False
        return True

    def __repr__(self) -> str:
        return f"<Secret: {self.name}>"


class EnvVarSecret(secrets.EnvVarSecret):
    """A secret from an environment variable; see :class:`prefectish.EnvVarSecret`.

    Parameters
    ----------
    env_var
        Name of the variable; None if each call gives one.
    cast
        Function that converts the text to the value.
    raise_if_missing
        Whether to raise if the variable is not set.
    **kwargs
        As for a task; `name` is the name of the task.
    """

    def __init__(
        self,
        env_var: str | None = None,
        cast: Callable[[str], Any] | None = None,
        raise_if_missing: bool = False,
        **kwargs: Any,
    ) -> None:
        name = kwargs.pop("name", None)
        kwargs.setdefault("checkpoint", False)
        super().__init__(env_var or name or type(self).__name__, raise_if_missing, cast, **kwargs)
        self.name = name or self.name
        self.env_var = env_var or name

    def run(self, name: str | None = None) -> Any:
        """Return the value; a ValueError if no name is given."""
        wanted = name or self.env_var
        if not wanted:
            raise ValueError("The name of an environment variable must be provided.")
        return super().run() if wanted == self.env_var else self._named(wanted).run()

    def _named(self, name: str) -> secrets.EnvVarSecret:
        return secrets.EnvVarSecret(name, self.raise_if_missing, self.cast)


class CompareValue(control_flow.Compare):
    """Skips downstream tasks unless a result equals a value.

    Parameters
    ----------
    value
        The value.
    **kwargs
        As for a task.
    """

    def __new__(cls, value: Any = None, **kwargs: Any) -> Self:
        """Refuse a task."""
        return super().__new__(cls, value)

    def __init__(self, value: Any, **kwargs: Any) -> None:
        super().__init__(value)
        self._change({"name": f'CompareValue: "{value}"', **kwargs})

    def run(self, value: Any) -> None:
        """Raise SKIP unless `value` is the expected one."""
        if not value == self.value:
            raise SKIP(f'Provided value "{value}" did not match "{self.value}"')


class case(branches.case):
    """Runs the tasks of a `with` block only if a task returns a given value; see :class:`prefectish.case`."""

    _compares = CompareValue


class Merge(control_flow.Merge, Task):
    """Gives the result of the branch that ran.

    Parameters
    ----------
    **kwargs
        As for a task.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        self._change(kwargs)


def merge(*tasks: Any, flow: Any = None, mapped: bool = False, checkpoint: bool | None = None, **named: Any) -> Any:
    """Return a task with the result of the branch that ran; see :func:`prefectish.merge`."""
    return branches.bind_branches(Merge(checkpoint=checkpoint), tasks, named, mapped, active_flow(flow, "merge"))


def switch(condition: Any, cases: Mapping[Any, Any], mapped: bool = False, flow: Any = None) -> None:
    """Run the task whose value equals a result; see :func:`prefectish.switch`."""
    branches.add_branches(CompareValue, condition, cases, mapped, active_flow(flow, "switch"))


def ifelse(condition: Any, true_task: Any, false_task: Any, mapped: bool = False, flow: Any = None) -> None:
    """Run one task if a result is true, else the other; see :func:`prefectish.ifelse`."""
    branches.add_both(CompareValue, condition, (true_task, false_task), mapped, active_flow(flow, "ifelse"))


class FilterTask(control_flow.FilterTask):
    """Filters a list; see :class:`prefectish.tasks.control_flow.FilterTask`.

    Parameters
    ----------
    log_func
        Function of a member that gives the text to log of it, if it is dropped.
    """

    def __init__(
        self,
        filter_func: Callable[[Any], object] | None = None,
        log_func: Callable[[Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("trigger", all_finished)
        super().__init__(filter_func, **kwargs)
        self.log_func = log_func

    def run(self, task_results: Iterable[Any]) -> list[Any]:
        """Return the members that are kept, in their order."""
        is_list = task_results is not None and not isinstance(task_results, BaseException)
        results = list(task_results) if is_list else task_results
        kept = super().run(results)
        if self.log_func is not None:
            for dropped in results:
                if not self.filter_func(dropped):
                    self.logger.info(self.log_func(dropped))
        return kept
