"""The table of Prefect's names: what it says is here is here, errors are made from it, and so is a part of the docs.

``python tests/test_prefect_names.py`` writes that part of ``docs/moving.md``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

import prefectish
from prefectish import Flow, context, flow, task
from prefectish.prefect_names import (
    ATTRIBUTES,
    GONE,
    LATER_PLACES,
    OF_FLOWS,
    OPTIONS,
    PLACES,
    Place,
    gone,
    missing_module,
    places,
    way_out,
)

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {"moving.md": (PLACES, False), "moving-later.md": (LATER_PLACES, True)}
TABLE = re.compile(r"(?<=<!-- names -->\n).*?(?=\n<!-- /names -->)", re.DOTALL)
#: Modules of Prefect that are here under their names, with other content.
HERE = {"prefect.cache_policies", "prefect.config", "prefect.environments", "prefect.results"}
#: What is code in a sentence of the table: calls and options, settings, dotted names.
CODE = (
    r"@task\([^)]*\)",
    r"\w+=\w+\([^)]*\)", r"\w+=\[\.\.\.\]", r"\w+=(?:\.\.\.|True|False)", r"\w+=",
    r"[\w.]+\([^)]*\)(?:\.\w+(?:\([^)]*\))?)*", r"\w+(?:\.\w+)+\['\w+'\]", r"PREFECTISH_\.\.\.",
    r"~/[\w.]+/[\w.]+", r"\w+(?:\.\w+)+",
)  # fmt: skip


def code(text: str) -> str:
    """Mark what is code, where the sentence does not do it."""
    parts = text.split("`")
    parts[::2] = [re.sub("|".join(CODE), lambda found: f"`{found[0]}`", part) for part in parts[::2]]
    return "`".join(parts)


def table(places: Mapping[str, Mapping[str, str]], later: bool) -> str:
    """Return the table of a page: modules with other places first, then what is not here."""
    lines = ["", "| Prefect | here |", "| --- | --- |"]
    for module, parts in places.items():
        if any(ours != module.replace("prefect", "prefectish", 1) for ours in parts):
            here = "; ".join(f"`{ours}`: {', '.join(map(place, text.split()))}" for ours, text in parts.items())
            lines.append(f"| `{module}` | {here} |")
    lines += ["", "| Prefect | instead |", "| --- | --- |"]
    for row in GONE:
        if row.later == later:
            lines.append(f"| {', '.join(f'`{name}`' for name in row.names.split())} | {code(row.instead)} |")
    options = OPTIONS if later else OF_FLOWS
    lines += ["", f"| option of {'tasks and flows' if later else 'flows'} | instead |", "| --- | --- |"]
    lines += [f"| `{name}` | {code(instead)} |" for name, instead in options.items()]
    if later:
        lines += ["", "| attribute | of | instead |", "| --- | --- | --- |"]
        lines += [
            f"| {', '.join(f'`{name}`' for name in names)} | {kind} | {code(instead)} |"
            for kind, attributes in ATTRIBUTES.items()
            for instead, names in by_answer(attributes).items()
        ]
    return "\n".join([*lines, ""])


def by_answer(attributes: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, instead in attributes.items():
        found.setdefault(instead, []).append(name)
    return found


def place(word: str) -> str:
    theirs, _, ours = word.partition("=")
    return f"`{theirs}` as `{ours}`" if ours else f"`{theirs}`"


@pytest.mark.parametrize("page", PAGES)
def test_page_has_the_table_as_it_is(page: str) -> None:
    assert TABLE.search((DOCS / page).read_text())[0] == table(*PAGES[page])


def test_every_place_has_its_name() -> None:
    found = {place for names in places().values() for place in names.values()}
    assert {place for place in found if not hasattr(import_module(place.module), place.name)} == set()


def test_names_that_are_gone_have_no_place() -> None:
    both = [name for name in gone() if name.rpartition(".")[2] in places().get(name.rpartition(".")[0], {})]
    assert both == []


def test_no_module_of_the_table_is_here_under_its_name() -> None:
    """Else the error about it is never seen."""
    assert [name for name in gone().keys() - HERE if imports(name.replace("prefect", "prefectish", 1))] == []


def imports(name: str) -> bool:
    try:
        import_module(name)
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.parametrize(
    ("statement", "way_out"),
    [
        ("from prefectish.storage import S3", "No module named 'prefectish.storage': code is not stored here"),
        ("import prefectish.run_configs", "No module named 'prefectish.run_configs': delete it"),
        (
            "from prefectish.tasks.control_flow import case",
            "case is in prefectish: write `from prefectish import case`",
        ),
        (
            "from prefectish.tasks.control_flow.conditional import switch",
            "`from prefectish import ifelse, merge, switch`",
        ),
        ("from prefectish import Client", "prefectish has no Client: there is no server"),
        (
            "from prefectish.client import Secret, Client",
            "`from prefectish import Secret`; for client: there is no server",
        ),
        ("from prefectish.engine.results import LocalResult", "write `from prefectish.results import LocalResult`"),
        ("from prefectish.engine import results", "write `from prefectish.results import LocalResult`"),
        ("from prefectish.results import S3Result", "write FSResult('s3://bucket/folder')"),
        ("from prefectish.engine.signals import PrefectStateSignal", "in prefectish.engine.signals, as StateSignal"),
        ("from prefectish.executors import Executor", "`from prefectish.engine.jobs.protocol import Executor`"),
        ("from prefectish.executors.dask import DaskExecutor", "from prefectish.executors import DaskExecutor"),
        ("from prefectish.utilities.edges import unmapped", "from prefectish import flatten, mapped, unmapped"),
        ("from prefectish.utilities import edges", "from prefectish import flatten, mapped, unmapped"),
        (
            "from prefectish.utilities.tasks import defaults_from_attrs",
            "`from prefectish import apply_map, pause_task, tags, task, unmapped`",
        ),
        ("from prefectish.tasks.prefect import create_flow_run", "write RunFlow('project/name')"),
        ("from prefectish.tasks import prefect", "write RunFlow('project/name')"),
        ("from prefectish.tasks.secrets import PrefectSecret", "PrefectSecret is in prefectish, as Secret"),
        ("from prefectish.utilities.notifications import gmail_notifier", "as email_notifier"),
        ("from prefectish.schedules.schedules import Schedule", "from prefectish.schedules import"),
        ("from prefectish.tasks.core.operators import GetItem", "operators: use operators on tasks"),
        ("from prefectish.core.flow import Flow", "from prefectish import DateTimeParameter, Flow"),
        ("from prefectish.core import Flow", "Parameter, Task, tags`, or `from prefectish.edges import Edge`"),
        ("from prefectish.blocks.system import Secret", "write a plain object, and prefectish.Secret"),
        (
            "from prefectish.states import Completed",
            "`from prefectish.engine.state import State`; for Completed: write",
        ),
        (
            "from prefectish.task_runners import SequentialTaskRunner",
            "`from prefectish.executors import LocalExecutor`",
        ),
        ("from prefectish.cache_policies import DEFAULT", "has no DEFAULT: write INPUTS, TASK_SOURCE, NO_CACHE"),
        ("from prefectish.cache_policies import nothing", "cannot import name 'nothing'"),
        ("from prefectish.results import ResultStore", "write result=LocalResult(...)"),
        ("from prefectish.schedules import Cron", "write CronSchedule or IntervalSchedule of prefectish.schedules"),
        ("from prefectish.flows import flow", "write `from prefectish import flow`"),
        ("from prefectish.locking.memory import MemoryLockManager", "prefectish.locking': computations"),
        ("from prefectish.task_worker import serve", "call it in a function with @flow"),
        ("from prefectish import Completed", "prefectish has no Completed: write Success(message, result=data)"),
        ("from prefectish import get_run_context", "prefectish has no get_run_context: write prefectish.context"),
        ("from prefectish import run_deployment", "prefectish has no run_deployment: write RunFlow('project/name')"),
        ("from prefectish import ConcurrentTaskRunner", "write `from prefectish import ThreadPoolTaskRunner`"),
        ("from prefectish import task_input_hash", "write `from prefectish.tasks import task_input_hash`"),
        ("from prefectish import aserve", "write prefectish.serve(flow)"),
        ("from prefectish.nothing import of_the_kind", "^No module named 'prefectish.nothing'$"),
        ("from prefectish.backend import set_key_value", "list_keys: keep values in a file"),
        ("from prefectish.environments.storage import S3", "code is not stored here"),
        ("from prefectish.tasks import nothing", "cannot import name 'nothing' from 'prefectish.tasks'"),
    ],
)  # fmt: skip
def test_mr5_import_that_does_not_work_says_what_to_write(statement: str, way_out: str) -> None:
    with pytest.raises(ImportError) as caught:
        exec(statement, {})
    assert re.search(way_out if way_out.startswith("^") else re.escape(way_out), str(caught.value)), caught.value


def test_every_name_of_the_table_leads_out() -> None:
    for module, names in places().items():
        for name, place in names.items():
            ours = module.replace("prefect", "prefectish", 1)
            if not module.startswith("prefect.") or has(ours, name, place):
                continue
            with pytest.raises(ImportError, match=re.escape(place.module)):
                exec(f"from {ours} import {name}", {})
    for name in gone().keys() - HERE:
        module, _, last = name.replace("prefect", "prefectish", 1).rpartition(".")
        is_module = not imports(module) or hasattr(sys.modules[module], "__path__")
        with pytest.raises(ImportError) as caught:
            exec(f"import {module}.{last}" if is_module else f"from {module} import {last}", {})
        assert way_out(name).instead in str(caught.value) or "write `from" in str(caught.value)


def has(module: str, name: str, place: Place) -> bool:
    """Whether our module of the same name has it, so that nothing has to be written in another way."""
    try:
        return getattr(import_module(module), name, None) is getattr(import_module(place.module), place.name)
    except ImportError:
        return False


def test_other_names_are_unknown_as_ever() -> None:
    assert missing_module("prefectish.no_such_module") is None
    assert not hasattr(prefectish, "no_such_name")
    with pytest.raises(AttributeError, match="module 'prefectish' has no attribute 'no_such_name'"):
        prefectish.no_such_name  # noqa: B018
    with pytest.raises(ImportError, match="Client: there is no server"):
        prefectish.Client  # noqa: B018


@task
def named(x):
    return x


def kept() -> dict[str, list[object]]:
    """Return what Prefect 2 and 3 have, too, by its kind."""
    found: dict[str, list[object]] = {"task": [named], "context": [context]}

    @flow(history=False)
    def keeps() -> None:
        found["state"] = [named(1, return_state=True)]
        found["future"] = [named.submit(1), named.map([1])]

    keeps()
    return {**found, "flow": [keeps]}


@pytest.mark.parametrize("kind", sorted(ATTRIBUTES))
def test_mr6_attribute_that_is_not_here_says_what_to_write(kind: str) -> None:
    for found in kept()[kind]:
        for name, instead in ATTRIBUTES[kind].items():
            with pytest.raises(AttributeError, match=re.escape(f"{name!r}")) as caught:
                getattr(found, name)
            assert str(caught.value).endswith(f"; {instead}")
        with pytest.raises(AttributeError) as caught:
            found.no_such_name  # noqa: B018
        assert "write task" not in str(caught.value)
        assert not hasattr(found, "_no_such_name")


@pytest.mark.parametrize("kind", sorted(ATTRIBUTES.keys() - {"context"}))
def test_mr6_what_is_to_be_written_instead_is_there(kind: str) -> None:
    found = kept()[kind][0]
    for instead in ATTRIBUTES[kind].values():
        for attribute, key in re.findall(rf"\b{kind}\.([\w.]+)(\['\w+'\])?", instead):
            value = attrgetter(attribute.rstrip("."))(found)
            assert not key or key.strip("[']") in value


@pytest.mark.parametrize("name", sorted(OF_FLOWS))
def test_mr5_flow_has_no_place_to_keep_what_it_ignores(name: str) -> None:
    with pytest.raises(TypeError, match=f"a flow has no option '{name}'; {re.escape(OF_FLOWS[name])}"):
        Flow("f", **{name: 1})


def test_mr5_assigning_what_a_flow_ignores_is_an_error() -> None:
    flow = Flow("f")
    for name in ("storage", "run_config", "environment"):
        with pytest.raises(AttributeError, match=f"a flow has no '{name}'; .*delete it"):
            setattr(flow, name, object())
        assert not hasattr(flow, name)
    flow.copy()
    with pytest.raises(TypeError, match="a flow has no option 'timeot'; did you mean 'timeout'"):
        Flow("f", timeot=None)


def test_every_module_can_be_imported_from_the_package() -> None:
    program = (
        "import pkgutil, prefectish\n"
        "for module in pkgutil.iter_modules(prefectish.__path__):\n"
        "    hasattr(prefectish, module.name)\n"  # this is what `from prefectish import name` asks first
        "from prefectish import schedules\n"
        "print(schedules.CronSchedule.__name__)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.stdout, ended.stderr) == ("CronSchedule\n", "")


if __name__ == "__main__":
    for name, of_page in PAGES.items():
        text = (DOCS / name).read_text()
        (DOCS / name).write_text(TABLE.sub(lambda _, of_page=of_page: table(*of_page), text))
