"""`import prefect` alone, with dotted names everywhere."""

import prefect


@prefect.task(name="dotted", tags={"t"})
def dotted(x):
    logger = prefect.context.get("logger")
    logger.info("x is %s", x)
    if x is None:
        raise prefect.engine.signals.SKIP("nothing")
    return x


class Doubles(prefect.Task):
    def run(self, x):
        self.logger.info("doubling")
        return 2 * x


with prefect.Flow("modules") as flow:
    x = prefect.Parameter("x", default=4)
    with prefect.tags("a", "b"):
        found = dotted(x)
    doubled = Doubles(trigger=prefect.triggers.all_successful)(found)
    mapped = dotted.map(prefect.unmapped(3), upstream_tasks=[prefect.mapped([1, 2])])
    skipped = dotted(None)

if __name__ == "__main__":
    state = flow.run(executor=prefect.executors.LocalExecutor())
    assert isinstance(state, prefect.engine.state.Success)


def check(state):
    assert state.is_successful(), state
    assert state.result[doubled].result == 8
    assert state.result[mapped].result == [3, 3]
    assert state.result[skipped].is_skipped()
    assert found.tags == {"t", "a", "b"}
