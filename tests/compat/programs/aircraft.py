"""The aircraft tutorial: live and reference data, a bounding box, an optional window of time."""

from datetime import timedelta
from random import Random

from prefect import Flow, Parameter, task
from prefect.engine import signals
from prefect.tasks.control_flow import case, merge

LOADED = []


@task
def extract_reference_data():
    return {"routes": {"DL1": ("JFK", "LAX"), "UA2": ("SFO", "ORD")}}


@task(max_retries=3, retry_delay=timedelta(seconds=0), tags=["api"])
def extract_live_data(airport, radius, ref_data):
    random = Random(radius)
    return [{"callsign": name, "alt": random.randint(1, 9)} for name in ref_data["routes"]]


@task(skip_on_upstream_skip=False)
def transform(live_data, ref_data):
    return [{**row, "from": ref_data["routes"][row["callsign"]][0]} for row in live_data]


@task
def load_reference_data(ref_data):
    LOADED.append(("reference", len(ref_data["routes"])))


@task
def load_live_data(rows):
    if not rows:
        raise signals.SKIP("nothing to load")
    LOADED.append(("live", len(rows)))
    return len(rows)


@task
def has_any(rows):
    return bool(rows)


@task
def nothing():
    return 0


with Flow("Aircraft-ETL") as flow:
    airport = Parameter("airport", default="IAD")
    radius = Parameter("radius", default=200)
    reference_data = extract_reference_data()
    live_data = extract_live_data(airport, radius, reference_data)
    transformed = transform(live_data, reference_data)
    stored = load_reference_data(reference_data)
    found = has_any(transformed)
    with case(found, True):
        live = load_live_data(transformed, upstream_tasks=[stored])
    with case(found, False):
        none = nothing()
    count = merge(live, none)


def check(state):
    assert state.is_successful(), state
    assert state.result[count].result == 2
    assert state.result[none].is_skipped()
