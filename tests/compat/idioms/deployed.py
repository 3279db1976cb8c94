"""Storage, a run config, an executor and registration, as for a flow that a server ran; run on this machine."""

from prefect import Flow, task
from prefect.executors import LocalDaskExecutor
from prefect.run_configs import KubernetesRun, UniversalRun
from prefect.storage import S3, GitHub

FLOW_NAME = "deployed"
STORAGE = GitHub(
    repo="anyone/flows",
    path=f"flows/{FLOW_NAME}.py",
    access_token_secret="GITHUB_ACCESS_TOKEN",
)


@task(log_stdout=True)
def hello(name="you"):
    print(f"hello {name}")
    return name


with Flow(FLOW_NAME, storage=STORAGE, run_config=KubernetesRun(image="prefecthq/prefect", labels=["k8s"])) as flow:
    said = hello()

flow.storage = S3(bucket="flows", stored_as_script=True)
flow.run_config = UniversalRun(labels=["dev"], env={"STAGE": "test"})
flow.executor = LocalDaskExecutor(scheduler="threads", num_workers=2)

if __name__ == "__main__":
    flow.register(project_name="community", idempotency_key=flow.serialized_hash())


def check(state):
    assert state.is_successful()
    assert state.result[said].result == "you"
