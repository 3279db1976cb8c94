"""The examples of the two guides that users come with: "next steps" and "state handlers"."""

from __future__ import annotations

import pytest

import prefectish
from prefectish import Flow, Task, task
from prefectish.engine import signals
from prefectish.engine.state import Failed, Mapped, Retrying, Skipped, Success, TriggerFailed
from prefectish.utilities.notifications import callback_factory

# ---------------------------------------------------------------------- next steps: triggers and reference tasks


class Spark:
    """What the example calls: a cluster that may refuse its job."""

    def __init__(self, healthy=True):
        self.healthy = healthy
        self.log = []

    def create_spark_cluster(self):
        self.log.append("created")
        return "cluster"

    def submit_job(self, cluster):
        self.log.append(f"job on {cluster}")
        if not self.healthy:
            raise RuntimeError("out of memory")

    def tear_down(self, cluster):
        self.log.append(f"tore down {cluster}")


def spark_flow(spark, **options_of_tear_down):
    @task
    def create_cluster():
        cluster = spark.create_spark_cluster()
        return cluster

    @task
    def run_spark_job(cluster):
        spark.submit_job(cluster)

    @task(**options_of_tear_down)
    def tear_down_cluster(cluster):
        spark.tear_down(cluster)

    with Flow("Spark") as flow:
        # define data dependencies
        cluster = create_cluster()
        submitted = run_spark_job(cluster)
        result = tear_down_cluster(cluster)

        # wait for the job to finish before tearing down the cluster
        result.set_upstream(submitted)

    return flow, submitted, result


def test_next_steps_flow_works_as_long_as_the_job_does():
    spark = Spark()
    flow, _, _ = spark_flow(spark)
    assert flow.run().is_successful()
    assert spark.log == ["created", "job on cluster", "tore down cluster"]


def test_next_steps_failed_job_keeps_the_cluster_with_the_default_trigger():
    spark = Spark(healthy=False)
    flow, submitted, result = spark_flow(spark)
    state = flow.run()
    assert type(state.result[submitted]) is Failed
    assert type(state.result[result]) is TriggerFailed
    assert state.is_failed()
    assert spark.log == ["created", "job on cluster"]


def test_next_steps_always_run_tears_the_cluster_down_and_decides_the_flow():
    spark = Spark(healthy=False)
    flow, submitted, result = spark_flow(spark, trigger=prefectish.triggers.always_run)
    state = flow.run()
    assert type(state.result[submitted]) is Failed
    assert type(state.result[result]) is Success
    assert state.is_successful()
    assert spark.log[-1] == "tore down cluster"


def test_next_steps_always_run_is_all_finished():
    assert prefectish.triggers.always_run is prefectish.triggers.all_finished


def test_next_steps_reference_task_decides_the_flow():
    flow, submitted, result = spark_flow(Spark(healthy=False), trigger=prefectish.triggers.always_run)
    flow.set_reference_tasks([submitted])
    state = flow.run()
    assert type(state.result[result]) is Success
    assert state.is_failed()
    flow, submitted, _ = spark_flow(Spark(), trigger=prefectish.triggers.always_run)
    flow.set_reference_tasks([submitted])
    assert flow.run().is_successful()


# ---------------------------------------------------------------------- next steps: signals


@task
def signal_task(message):
    if message == "go!":
        raise signals.SUCCESS(message="going!")
    elif message == "stop!":
        raise signals.FAIL(message="stopping!")
    elif message == "skip!":
        raise signals.SKIP(message="skipping!")


@pytest.mark.parametrize(
    ("message", "kind", "text"),
    [
        ("go!", Success, "going!"),
        ("stop!", Failed, "stopping!"),
        ("skip!", Skipped, "skipping!"),
        ("something else", Success, "Task run succeeded."),
    ],
)
def test_next_steps_signals_name_the_state(message, kind, text):
    with Flow("signals") as flow:
        out = signal_task(message)
    state = flow.run().result[out]
    assert (type(state), state.message) == (kind, text)


def test_next_steps_skip_counts_as_success_and_takes_the_branch_with_it():
    @task
    def after(x):
        return "ran"

    with Flow("skips") as flow:
        skipped = signal_task("skip!")
        branch = after(skipped)
        kept = after.copy(skip_on_upstream_skip=False)(skipped)
    state = flow.run()
    assert state.is_successful()
    assert type(state.result[branch]) is Skipped
    assert state.result[kept].result == "ran"


def test_next_steps_signals_in_a_map():
    with Flow("signals") as flow:
        out = signal_task.map(["go!", "stop!", "skip!"])
    state = flow.run()
    assert type(state.result[out]) is Mapped
    assert [type(child) for child in state.result[out].map_states] == [Success, Failed, Skipped]


# ---------------------------------------------------------------------- state handlers


def my_state_handler(obj, old_state, new_state):
    msg = "\nCalling my custom state handler on {0}:\n{1} to {2}\n"
    print(msg.format(obj, old_state, new_state))
    return new_state


def test_state_handler_of_a_flow_prints(capsys):
    my_flow = Flow(name="state-handler-demo", state_handlers=[my_state_handler])
    my_flow.run()
    assert capsys.readouterr().out == (
        "\n"
        "Calling my custom state handler on <Flow: name=state-handler-demo>:\n"
        'Scheduled() to Running("Running flow.")\n'
        "\n"
        "\n"
        "Calling my custom state handler on <Flow: name=state-handler-demo>:\n"
        'Running("Running flow.") to Success("All reference tasks succeeded.")\n'
        "\n"
    )


def test_state_handler_of_a_task_prints(capsys):
    t = Task(state_handlers=[my_state_handler])
    flow = Flow(name="state-handler-demo", tasks=[t])
    flow.run()
    assert capsys.readouterr().out == (
        "\n"
        "Calling my custom state handler on <Task: Task>:\n"
        'Pending() to Running("Starting task run.")\n'
        "\n"
        "\n"
        "Calling my custom state handler on <Task: Task>:\n"
        'Running("Starting task run.") to Success("Task run succeeded.")\n'
        "\n"
    )


class Slack:
    """Stands for `requests`: keeps what is posted."""

    def __init__(self, fails=False):
        self.posts = []
        self.fails = fails

    def post(self, url, json):
        if self.fails:
            raise ConnectionError("slack is down")
        self.posts.append(json["text"])


def test_state_handler_posts_when_a_task_has_finished():
    requests = Slack()

    def post_to_slack(task, old_state, new_state):
        if new_state.is_finished():
            msg = f"Task {task} finished in state {new_state}"
            requests.post("https://XXXXX", json={"text": msg})

        return new_state

    t = Task(state_handlers=[post_to_slack])
    flow = Flow(name="state-handler-demo", tasks=[t])
    flow.run()
    assert requests.posts == ['Task <Task: Task> finished in state Success("Task run succeeded.")']


def test_state_handler_that_fails_fails_the_task():
    requests = Slack(fails=True)

    def post_to_slack(task, old_state, new_state):
        requests.post("https://XXXXX", json={"text": "hello"})

    t = Task(state_handlers=[post_to_slack])
    state = Flow(name="state-handler-demo", tasks=[t]).run()
    assert type(state.result[t]) is Failed
    assert "slack is down" in state.result[t].message
    assert state.is_failed()


def post_retries_to(requests):
    def post_to_slack(task, old_state, new_state):
        if new_state.is_retrying():
            msg = f"Task {task} failed and is retrying at {new_state.start_time}"
            requests.post("https://XXXXX", json={"text": msg})

        return new_state

    return post_to_slack


def test_state_handler_on_retries_is_not_run_without_one():
    requests = Slack()
    t = Task(state_handlers=[post_retries_to(requests)])
    Flow(name="state-handler-demo", tasks=[t]).run()
    assert requests.posts == []


def test_state_handler_and_callback_tell_when_a_task_retries():
    by_hand, by_factory = Slack(), Slack()
    failures = []

    def send_post(task, state):
        msg = f"Task {task} failed and is retrying at {state.start_time}"
        by_factory.post("https://XXXXX", json={"text": msg})

    post_to_slack = callback_factory(send_post, lambda s: s.is_retrying())

    @task(
        max_retries=2,
        retry_delay=0,
        state_handlers=[post_retries_to(by_hand), post_to_slack],
        on_failure=lambda task, state: failures.append(type(state)),
    )
    def unsteady():
        raise ValueError

    with Flow("retries") as flow:
        unsteady()
    flow.run()
    assert len(by_hand.posts) == 2
    assert by_hand.posts == by_factory.posts
    assert by_hand.posts[0].startswith("Task <Task: unsteady> failed and is retrying at 20")
    assert failures == [Failed] * 3
    assert not issubclass(Retrying, Failed)


def alert_on_special_failure(task, old_state, new_state):
    if new_state.is_failed() and getattr(new_state.result, "flag", False) is True:
        print("Special failure mode!  Send all the alerts!")
        print(f"a == b == {new_state.result.value}")

    return new_state


@task(state_handlers=[alert_on_special_failure])
def mission_critical_task(a, b):
    if a == b:
        fail_signal = signals.FAIL("a equaled b!")
        fail_signal.flag = True
        fail_signal.value = a
        raise fail_signal
    else:
        return 1 / (b - a)


def test_state_handler_reads_what_hangs_on_a_signal(capsys):
    with Flow(name="state-inspection-handler") as flow:
        result = mission_critical_task(1, 1)
    state = flow.run()
    assert capsys.readouterr().out == "Special failure mode!  Send all the alerts!\na == b == 1\n"
    assert state.result[result].message == "a equaled b!"


def test_state_handler_is_silent_for_other_outcomes(capsys):
    with Flow(name="state-inspection-handler") as flow:
        fine = mission_critical_task(1, 3)
        other = mission_critical_task("a", 1)
    state = flow.run()
    assert capsys.readouterr().out == ""
    assert state.result[fine].result == 0.5
    assert type(state.result[other]) is Failed


def test_state_handlers_are_called_in_the_order_given():
    called = []
    handlers = [lambda task, old, new, n=n: called.append((n, type(new).__name__)) for n in (1, 2, 3)]
    Flow("order", tasks=[Task(state_handlers=handlers)]).run()
    assert called == [(n, name) for name in ("Running", "Success") for n in (1, 2, 3)]


def test_on_failure_of_tasks_and_flows():
    told = []

    def f(obj, state):
        told.append((repr(obj), repr(state)))

    @task(on_failure=f)
    def broken():
        raise ValueError("boom")

    with Flow("fails", on_failure=f) as flow:
        broken()
    flow.run()
    assert told == [
        ("<Task: broken>", "Failed(\"Error during execution of task: ValueError('boom')\")"),
        ("<Flow: name=fails>", 'Failed("Some reference tasks failed.")'),
    ]
