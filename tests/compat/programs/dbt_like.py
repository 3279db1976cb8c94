"""Shell commands in an order, as of dbt: seed, run and test, with a helper script and the output of each."""

from prefect import Flow, Parameter, task
from prefect.tasks.shell import ShellTask
from prefect.triggers import all_finished

dbt = ShellTask(
    return_all=True,
    log_stderr=True,
    helper_script="export TARGET=dev",
    env={"PROFILE": "prod"},
    stream_output=False,
)


@task(trigger=all_finished)
def output(lines):
    return "\n".join(lines)


@task
def command(name, models):
    return f'echo "{name} $TARGET $PROFILE"; for m in {" ".join(models)}; do echo "ok $m"; done'


with Flow("dbt") as flow:
    models = Parameter("models", default=["orders", "customers"])
    seed = dbt(command=command("seed", models), task_args={"name": "seed"})
    run = dbt(command=command("run", models), task_args={"name": "run"}, upstream_tasks=[seed])
    test = dbt(command="exit 0", task_args={"name": "test"}, upstream_tasks=[run])
    text = output(run)


def check(state):
    assert state.is_successful(), state
    assert state.result[text].result == "run dev prod\nok orders\nok customers"
