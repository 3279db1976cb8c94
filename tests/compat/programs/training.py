"""A grid of models is trained in a map, the best is chosen, its report is stored at a target."""

from tempfile import mkdtemp

from prefect import Flow, Parameter, task, unmapped
from prefect.engine.results import LocalResult
from prefect.engine.serializers import JSONSerializer
from prefect.utilities.edges import flatten

FOLDER = mkdtemp()


@task(nout=2)
def split(n):
    data = list(range(n))
    return data[: n // 2], data[n // 2 :]


@task
def grid(depths, rates):
    return [{"depth": d, "rate": r} for d in depths for r in rates]


@task(task_run_name="train-{params[depth]}-{params[rate]}")
def train(params, data):
    return {"params": params, "weight": sum(data) * params["rate"] / params["depth"]}


@task
def score(model, data):
    return abs(model["weight"] - len(data))


@task
def best(models, scores):
    return min(zip(scores, range(len(models)), models, strict=True))[2]


@task(
    result=LocalResult(dir=FOLDER, serializer=JSONSerializer()),
    target="{flow_name}/report.json",
    checkpoint=True,
)
def report(model):
    return model["params"]


@task
def names(model):
    return sorted(model["params"])


with Flow("training") as flow:
    train_data, test_data = split(Parameter("n", default=10))
    candidates = grid([1, 2], [0.1, 0.5])
    models = train.map(candidates, data=unmapped(train_data))
    scores = score.map(models, data=unmapped(test_data))
    chosen = best(models, scores)
    written = report(chosen)
    words = names.map(models)
    upper = task(lambda w: w.upper(), name="upper").map(flatten(words))


def check(state):
    assert state.is_successful(), state
    assert len(state.result[models].map_states) == 4
    assert state.result[written].result == {"depth": 1, "rate": 0.5}
    assert state.result[upper].result == ["DEPTH", "RATE"] * 4
