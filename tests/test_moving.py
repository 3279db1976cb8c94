"""`prefectish move`: each example is a file before and after, and what is left of it."""

from __future__ import annotations

import re
import subprocess
import sys
from textwrap import dedent
from typing import Any

import pytest

pytest.importorskip("libcst")

from idioms import IDIOMS, PROGRAMS, run_idiom

from prefectish.executors import LocalExecutor
from prefectish.moving import move


def moved(before: str) -> str:
    return move(dedent(before)).source


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from prefect import Flow, task", "from prefectish import Flow, task"),
        ("from prefect import *", "from prefectish import *"),
        ("from prefect.engine.signals import *", "from prefectish.engine.signals import *"),
        ("import prefect", "import prefectish"),
        ("import prefect, os", "import prefectish\nimport os"),
        ("import prefect.triggers", "import prefectish.triggers"),
        ("from prefect.core import Flow, Edge", "from prefectish import Flow\nfrom prefectish.edges import Edge"),
        ("from prefect.utilities.edges import unmapped as u", "from prefectish import unmapped as u"),
        ("from prefect.engine import signals, state", "from prefectish.engine import signals, state"),
        ("from prefect.engine import results", "from prefectish import results"),
        ("import prefect.engine.signals as s\ns.FAIL()", "import prefectish.engine.signals as s\ns.FAIL()"),
        ("import prefect as p\n@p.task\ndef f(): ...", "import prefectish\n@prefectish.task\ndef f(): ..."),
        (
            "import prefect\nprefect.engine.signals.FAIL('no')",
            "import prefectish.engine.signals\nprefectish.engine.signals.FAIL('no')",
        ),
        (
            "import prefect\nprefect.context.get('logger').info('x')",
            "import prefectish\nprefectish.context.get('logger').info('x')",
        ),
        (
            "from prefect.tasks import control_flow\nwith control_flow.case(x, 1): ...",
            "import prefectish\nwith prefectish.case(x, 1): ...",
        ),
        (
            "from prefect.tasks.secrets import PrefectSecret\nkey = PrefectSecret('KEY')",
            "from prefectish import Secret\nkey = Secret('KEY')",
        ),
        (
            "from prefect.tasks.secrets import PrefectSecret\nSecret = 1\nkey = PrefectSecret('KEY')",
            "from prefectish import Secret as PrefectSecret\nSecret = 1\nkey = PrefectSecret('KEY')",
        ),
        (
            "from prefect.engine import signals\nraise signals.PrefectStateSignal('x')",
            "from prefectish.engine import signals\nraise signals.StateSignal('x')",
        ),
        (
            "from prefect import (\n    Flow,  # a flow\n    case,\n)\nf(case=1)\nx.case",
            "from prefectish import (\n    Flow,  # a flow\n    case,\n)\nf(case=1)\nx.case",
        ),
        (
            "def f():\n    import prefect\n    return prefect.context",
            "def f():\n    import prefectish\n    return prefectish.context",
        ),
        (
            "try:\n    from prefect.executors import DaskExecutor\nexcept ImportError:\n    DaskExecutor = None",
            "try:\n    from prefectish.executors import DaskExecutor\nexcept ImportError:\n    DaskExecutor = None",
        ),
        ("from prefect.task_runners import SequentialTaskRunner\nSequentialTaskRunner()",
         "from prefectish.executors import LocalExecutor\nLocalExecutor()"),
        ("from prefect.utilities import logging\nlogging.get_logger('x')",
         "import prefectish\nprefectish.get_logger('x')"),
        ("from prefect_dask import DaskTaskRunner", "from prefectish import DaskTaskRunner"),
        ("from prefect.tasks import task_input_hash, task",
         "from prefectish.tasks import task_input_hash\nfrom prefectish import task"),
        ("import prefect_like\nfrom prefect_like import task", "import prefect_like\nfrom prefect_like import task"),
        ("from .prefect import task", "from .prefect import task"),
    ],
)  # fmt: skip
def test_imports_and_names(before: str, after: str) -> None:
    found = move(before)
    assert (found.source, found.left) == (after, [])
    compile(found.source, "moved.py", "exec")
    assert move(found.source).source == found.source


@pytest.mark.parametrize(
    ("imported", "before", "after"),
    [
        ("Flow", "Flow('f', every)", "Flow('f', schedule=every)"),
        ("Flow", "Flow('f', storage=None, run_config=None)", "Flow('f')"),
        ("Flow", "Flow('f', edge_check=True, result_handler=None)", "Flow('f')"),
        ("executors.LocalDaskExecutor", "LocalDaskExecutor(scheduler='threads')",
         "LocalDaskExecutor(scheduler='threads')"),
        ("executors.DaskExecutor", "DaskExecutor(local_processes=True)",
         'DaskExecutor(cluster_kwargs={"processes": True})'),
        ("schedules.clocks.CronClock", "CronClock('0 9 * * *', labels=['a'])", "CronClock('0 9 * * *')"),
        ("schedules.clocks.CronClock", "CronClock('0 9 3 * 5', day_or=False)", "CronClock('0 9 3 * 5', day_or=False)"),
        ("tasks.shell.ShellTask", "ShellTask('ls', log_stderr=True)", "ShellTask('ls')"),
        ("tasks.control_flow.FilterTask", "FilterTask(log_func=print)", "FilterTask()"),
        ("utilities.notifications.slack_notifier", "slack_notifier(backend_info=False)", "slack_notifier()"),
        ("engine.results.LocalResult", "LocalResult(dir='x', validate_dir=False)", "LocalResult(dir='x')"),
        ("Flow", "state = flow.visualize(flow_state=state)", "state = flow.visualize(state)"),
        ("Flow", "flow.register('p', idempotency_key=1, labels=['a'])", "flow.register('p', labels=['a'])"),
        ("Flow", "import logging\nlogging.getLogger('prefect.x')", "import logging\nlogging.getLogger('prefectish.x')"),
    ],
)  # fmt: skip
def test_known_calls(imported: str, before: str, after: str) -> None:
    module, _, name = f"prefect.{imported}".rpartition(".")
    found = move(f"from {module} import {name}\n{before}")
    assert (found.source.partition("\n")[2], found.left) == (after, [])


def test_executor_of_one_thread_has_a_name_of_its_own() -> None:
    before = "from prefect.executors import LocalDaskExecutor\nx = LocalDaskExecutor(scheduler='single-threaded')"
    assert moved(before) == "from prefectish.executors import LocalExecutor\nx = LocalExecutor()"
    both = f"{before}\ny = LocalDaskExecutor()"
    assert moved(both).startswith(
        "from prefectish.executors import LocalExecutor, LocalDaskExecutor\nx = LocalExecutor()"
    )


@pytest.mark.parametrize(
    ("imported", "before", "after"),
    [
        ("engine.signals.RETRY", "RETRY(start_time=datetime.utcnow())", "RETRY(start_time=datetime.now(UTC))"),
        ("engine.state.Scheduled", "Scheduled(start_time=datetime(2030, 1, 1))",
         "Scheduled(start_time=datetime(2030, 1, 1, tzinfo=UTC))"),
        ("schedules.clocks.DatesClock", "DatesClock([datetime(2030, 1, 1)])",
         "DatesClock([datetime(2030, 1, 1, tzinfo=UTC)])"),
        ("engine.signals.RETRY", "RETRY(start_time=datetime.utcnow() + timedelta(minutes=5))",
         "RETRY(start_time=datetime.now(UTC) + timedelta(minutes=5))"),
        ("engine.signals.RETRY", "RETRY(start_time=delay + datetime.utcnow().replace(microsecond=0))",
         "RETRY(start_time=delay + datetime.now(UTC).replace(microsecond=0))"),
        ("engine.state.Scheduled", "Scheduled('later', None, dt.datetime.now() - delay)",
         "Scheduled('later', None, dt.datetime.now(UTC) - delay)"),
        ("schedules.IntervalSchedule", "IntervalSchedule(day, datetime.utcfromtimestamp(0) if old else None)",
         "IntervalSchedule(day, datetime.fromtimestamp(0, UTC) if old else None)"),
        ("schedules.clocks.DatesClock", "DatesClock([datetime(2030, 1, day) for day in (1, 2)])",
         "DatesClock([datetime(2030, 1, day, tzinfo=UTC) for day in (1, 2)])"),
        ("schedules.clocks.DatesClock", "dates = [datetime(2030, 1, 1)]; DatesClock(dates); DatesClock(dates=dates)",
         "dates = [datetime(2030, 1, 1, tzinfo=UTC)]; DatesClock(dates); DatesClock(dates=dates)"),
        ("schedules.CronSchedule", "CronSchedule('@daily').next(3, after=datetime(2030, 1, 1))",
         "CronSchedule('@daily').next(3, after=datetime(2030, 1, 1, tzinfo=UTC))"),
        ("schedules.IntervalSchedule", "daily.next(2, datetime.utcnow()); daily.clocks[0].events(after=datetime.now())",
         "daily.next(2, datetime.now(UTC)); daily.clocks[0].events(after=datetime.now(UTC))"),
        ("schedules.filters.on_datetime", "on_datetime(datetime(2030, 1, 1))",
         "on_datetime(datetime(2030, 1, 1, tzinfo=UTC))"),
    ],
)  # fmt: skip
def test_naive_times_of_signals_states_and_filters_are_in_utc(imported: str, before: str, after: str) -> None:
    module, _, name = f"prefect.{imported}".rpartition(".")
    found = move(f"from {module} import {name}\n{before}")
    assert (found.source.rpartition("\n")[2], found.left) == (after, [])
    assert "from datetime import UTC" in found.source


def test_dates_with_names_are_put_into_utc_where_they_are_made() -> None:
    before = """\
        from datetime import datetime, timedelta
        from prefect.schedules import IntervalSchedule
        from prefect.schedules.clocks import DatesClock
        START = datetime(2030, 1, 1)
        END = START.replace(year=2031) + timedelta(days=3)
        DAYS = [START, datetime(2030, 2, 1) if old else START]
        IntervalSchedule(timedelta(1), START, END)
        DatesClock(DAYS)
        late = early = early
        DatesClock([late])
    """
    found = move(dedent(before))
    assert found.source == dedent(before).replace("prefect.", "prefectish.").replace(
        "0, 1, 1)", "0, 1, 1, tzinfo=UTC)"
    ).replace("0, 2, 1)", "0, 2, 1, tzinfo=UTC)").replace(
        "import datetime, timedelta", "import UTC, datetime, timedelta"
    )
    assert [(left.line, left.what) for left in found.left] == [(10, "late")]


@pytest.mark.parametrize(
    ("imported", "before", "after"),
    [
        ("from datetime import datetime as dt", "dt.utcnow() + delay", "dt.now(UTC) + delay"),
        ("from datetime import datetime as dt", "dt(2030, 1, 1)", "dt(2030, 1, 1, tzinfo=UTC)"),
        ("import datetime as d", "d.datetime.today()", "d.datetime.now(UTC)"),
        ("import datetime as d", "d.datetime(2030, 1, 1)", "d.datetime(2030, 1, 1, tzinfo=UTC)"),
        ("from pendulum import datetime", "datetime(2030, 1, 1)", "datetime(2030, 1, 1)"),
        ("from pendulum import now", "now()", "now()"),
        ("import pendulum as p", "p.now().add(hours=1)", "p.now().add(hours=1)"),
    ],
)
def test_dates_are_known_by_what_is_imported(imported: str, before: str, after: str, monkeypatch: Any) -> None:
    monkeypatch.setattr("prefectish.moving.uses.find_spec", lambda name: True)
    found = move(f"{imported}\nfrom prefect.engine.signals import RETRY\nraise RETRY(start_time={before})")
    assert (found.source.rpartition("\n")[2], found.left) == (f"raise RETRY(start_time={after})", [])


@pytest.mark.parametrize(
    "date",
    [
        "pendulum.now() + delay", "pendulum.now('utc').add(minutes=5)", "datetime.now(UTC)", "datetime.now(tz=zone)",
        "date.replace(tzinfo=UTC)", "datetime(2030, 1, 1, 0, 0, 0, 0, zone)", "None",
        "context.scheduled_start_time + delay", "date.astimezone()", "later + datetime.now(UTC)",
    ],
)  # fmt: skip
def test_dates_with_a_zone_stay(date: str) -> None:
    found = move(f"from prefect.engine.signals import RETRY\nraise RETRY(start_time={date})")
    assert found.left == []
    assert found.source.endswith(f"RETRY(start_time={date})")


@pytest.mark.parametrize(
    ("lines", "left"),
    [
        ("raise RETRY(start_time=later)", "later"),
        ("raise RETRY('not yet', start_time=self.later())", "self.later()"),
        ("raise RETRY(start_time=datetime.strptime(text, '%Y'))", "datetime.strptime(text, '%Y')"),
        ("raise RETRY(start_time=later.replace(tzinfo=None))", "later.replace(tzinfo=None)"),
        ("raise RETRY(start_time=begin + timedelta(minutes=5))", "begin + timedelta(minutes=5)"),
        ("later = datetime.utcnow(); print(later); raise RETRY(start_time=later)", "later"),
        ("for date in dates: RETRY(start_time=date)", "date"),
        ("def f(date): RETRY(start_time=date)", "date"),
        ("DatesClock(dates)", "dates"),
        ("DatesClock([first, datetime(2030, 1, 1, tzinfo=UTC)])", "first"),
        ("between_datetimes(datetime.now(UTC), end)", "end"),
        ("RETRY('not yet', **options)", "options"),
        ("DatesClock(*given)", "given"),
        ("RETRY(start_time=self.start_date)", "self.start_date"),
        ("schedule.next(3, after=day)", "day"),
        ("DatesClock(**{'dates': listed})", "listed"),
        ("DatesClock(**{**options, 'dates': [None]})", "options"),
        ("DatesClock(**{name: 1})", "1"),
    ],
)
def test_dates_that_cannot_be_judged_are_left(lines: str, left: str) -> None:
    imports = "from prefect.engine.signals import RETRY\nfrom prefect.schedules.clocks import DatesClock\n"
    found = move(f"{imports}from prefect.schedules.filters import between_datetimes\n{lines}")
    assert found.source.endswith(lines)
    assert [(line, what) for line, what, _ in found.left] == [(4, left)]
    assert "must have a time zone" in found.left[0].reason


@pytest.mark.parametrize(
    "line",
    [
        "reader.next(); reader.next(2)",
        "date.next(FRIDAY)",
        "day.events(**given)",
        "daily.next(2, after=daily.clocks[0].start_date)",
    ],
)
def test_other_calls_of_these_names_and_dates_of_clocks_stay(line: str) -> None:
    found = move(f"from prefect.schedules import IntervalSchedule\n{line}")
    assert (found.source.rpartition("\n")[2], found.left) == (line, [])


def test_dates_that_a_call_unpacks_are_in_utc() -> None:
    imports = "from datetime import datetime\nfrom prefect.engine.signals import RETRY\n"
    found = move(
        imports + "raise RETRY('not yet', **{'start_time': datetime(2030, 1, 1), 'result': datetime(2030, 1, 1)})"
    )
    assert found.left == []
    assert found.source.endswith("**{'start_time': datetime(2030, 1, 1, tzinfo=UTC), 'result': datetime(2030, 1, 1)})")
    found = move(imports + "raise RETRY(*given, start_time=datetime(2030, 1, 1))")
    assert found.source.endswith("RETRY(*given, start_time=datetime(2030, 1, 1, tzinfo=UTC))")
    assert found.left == []


def test_naive_dates_are_in_utc() -> None:
    before = """\
        from datetime import datetime, timedelta
        from prefect.schedules import IntervalSchedule
        IntervalSchedule(start_date=datetime.utcnow(), interval=timedelta(1))
        IntervalSchedule(timedelta(1), datetime(2030, 1, 1))
        IntervalSchedule(start_date=datetime(2030, 1, 1, tzinfo=zone), interval=timedelta(1))
    """
    assert moved(before) == dedent("""\
        from datetime import UTC, datetime, timedelta
        from prefectish.schedules import IntervalSchedule
        IntervalSchedule(start_date=datetime.now(UTC), interval=timedelta(1))
        IntervalSchedule(timedelta(1), datetime(2030, 1, 1, tzinfo=UTC))
        IntervalSchedule(start_date=datetime(2030, 1, 1, tzinfo=zone), interval=timedelta(1))
    """)


def test_storage_and_run_configs_go_with_what_was_made_for_them() -> None:
    before = """\
        from prefect import Flow
        from prefect.run_configs import KubernetesRun
        from prefect.storage import GitHub, S3
        STORAGE = GitHub(
            repo="a/b",
        )
        with Flow("f", storage=STORAGE, run_config=KubernetesRun(labels=["a"])) as flow:
            pass
        flow.storage = S3("bucket")
        flow.run_config = KubernetesRun()
        copied.storage = S3("bucket")
        copied.storage = somewhere
    """
    found = move(dedent(before))
    assert found.source == dedent("""\
        from prefectish import Flow
        with Flow("f") as flow:
            pass
        copied.storage = somewhere
    """)
    assert [(line, what) for line, what, _ in found.deleted] == [
        (4, "STORAGE = GitHub("),
        (7, 'run_config=KubernetesRun(labels=["a"])'),
        (7, "storage=STORAGE"),
        (9, 'flow.storage = S3("bucket")'),
        (10, "flow.run_config = KubernetesRun()"),
        (11, 'copied.storage = S3("bucket")'),
    ]
    assert found.left == []


def test_what_something_else_uses_stays() -> None:
    before = "from prefect.storage import S3\nstorage = S3('x')\nprint(storage)"
    found = move(before)
    assert found.source == before
    assert [(left.line, left.what) for left in found.left] == [(2, "prefect.storage.S3")]


def test_flow_runs_that_are_started_by_a_task() -> None:
    before = """\
        from prefect.tasks.prefect import StartFlowRun
        StartFlowRun(flow_name="daily", project_name="sales", wait=True)
        StartFlowRun(project_name=project, flow_name="daily", name="starts it")
        StartFlowRun(flow_name="daily", project_name="sales", parameters={"x": 1})
    """
    found = move(dedent(before))
    assert found.source == dedent("""\
        from prefectish.tasks.flows import RunFlow
        RunFlow("sales/daily", wait=True)
        RunFlow(f"{project}/daily", name="starts it", wait=False)
        RunFlow(flow_name="daily", project_name="sales", parameters={"x": 1})
    """)
    assert [left.line for left in found.left] == [4]


def test_what_is_not_here_is_left_with_its_line_and_a_reason() -> None:
    before = """\
        import prefect
        from prefect import Flow
        from prefect.backend import get_key_value
        from prefect.tasks.aws import S3Upload
        prefect.config.flows.checkpointing = True
        Flow(get_key_value("name"))
        HOME = "PREFECT__HOME_DIR"
    """
    found = move(dedent(before))
    assert found.source.startswith("import prefect\n")
    assert "from prefect.tasks.aws import S3Upload\n" in found.source
    assert [(left.line, left.what, left.reason[:12]) for left in found.left] == [
        (4, "prefect.tasks.aws.S3Upload", "write a task"),
        (5, "prefect.config.flows.checkpointing", "settings are"),
        (6, "prefect.backend.get_key_value", "keep values "),
        (7, "PREFECT__HOME_DIR", "settings are"),
    ]


def test_star_import_of_what_is_in_several_modules_is_left() -> None:
    found = move("from prefect.tasks.control_flow import *")
    assert found.source == "from prefect.tasks.control_flow import *"
    why = "its names are in several modules here: import them one by one"
    assert found.left == [(1, "prefect.tasks.control_flow", why)]


def test_names_of_a_star_import_are_known() -> None:
    found = move("from prefect import *\nflow = Flow('a', storage=1)\nClient()\n")
    assert found.source == "from prefectish import *\nflow = Flow('a')\nClient()\n"
    assert [(left.line, left.what) for left in found.left] == [(3, "prefect.Client")]
    assert [left.line for left in found.deleted] == [2]


def test_libraries_that_came_with_prefect_are_named_unless_they_are_there(monkeypatch) -> None:
    monkeypatch.setattr("prefectish.moving.uses.find_spec", lambda name: name == "croniter" or None)
    found = move("import pendulum\nfrom marshmallow import fields\nimport croniter\n")
    why = "it came with Prefect and is not installed: install it, or do without it"
    assert found.left == [(1, "pendulum", why), (2, "marshmallow", why)]


def test_methods_of_flows_that_are_not_here_are_left() -> None:
    before = (
        "from prefect import Flow\nf = Flow('f')\nf.run_agent()\nf.register('p', idempotency_key=f.serialized_hash())\n"
    )
    found = move(before)
    assert found.source.endswith("f.run_agent()\nf.register('p')\n")
    assert found.left == [(3, "f.run_agent", "write `prefectish agent start`")]


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prefectish.cli", "move", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command_shows_a_diff_and_writes_when_it_is_told_to(tmp_path) -> None:
    file, other = tmp_path / "flow.py", tmp_path / "other.py"
    before = "from prefect import Flow\r\nf = Flow('f', storage=None)\r\n"
    file.write_bytes(before.encode())
    other.write_text("import prefect\nprefect.Client()\n")
    shown = command(file)
    assert shown.returncode == 0, shown.stderr
    assert "-from prefect import Flow" in shown.stdout
    assert "+from prefectish import Flow" in shown.stdout
    assert f"{file}:2: deleted: storage=None: code is not stored here" in shown.stderr
    assert file.read_bytes() == before.encode()
    wrote = command(file, other, "--write")
    assert (wrote.returncode, wrote.stdout) == (1, f"{file}: rewritten\n")
    assert f"{other}:2: left: prefect.Client: there is no server" in wrote.stderr
    assert file.read_bytes() == b"from prefectish import Flow\r\nf = Flow('f')\r\n"
    assert command(file).stdout == ""


def test_command_says_which_file_it_cannot_read(tmp_path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import prefect\ndef :\n")
    done = command(file)
    assert done.returncode == 2
    assert done.stderr.startswith(f"prefectish: {file}:2: not valid Python:")
    assert command(tmp_path / "nothing.py").returncode == 2


@pytest.mark.parametrize("path", IDIOMS, ids=lambda path: path.stem)
def test_file_of_prefect_1_runs_after_the_move(path, executor, tmp_path) -> None:
    found = move(path.read_text())
    assert found.left == []
    assert not re.search(r"\bprefect\b(?! 1)[. ]import", found.source)
    run_idiom(path, found.source, tmp_path, executor)


#: What is left of programs, with words of the reason; the rest of them runs after the move.
LEFT = {
    "files_db": {"SQLTask", "the standard library"},
    "kv": {"a database of your own", "prefectish report", "FSResult"},
    "reports": {"the standard library"},
    "subflows": {"RunFlow"},
}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_program_of_prefect_1_runs_after_the_move_or_is_told_what_is_left(path, tmp_path) -> None:
    found = move(path.read_text())
    if path.stem not in LEFT:
        assert found.left == []
        run_idiom(path, found.source, tmp_path, LocalExecutor())
        return
    assert all(0 < left.line <= path.read_text().count("\n") for left in found.left)
    for words in LEFT[path.stem]:
        assert any(words in left.reason for left in found.left)
    assert all(any(words in left.reason for words in LEFT[path.stem]) for left in found.left)
