"""Downloads from a server that is down at first: retries with a list of delays."""

from pathlib import Path

from prefectish import flow, task


@task(retries=3, retry_delay_seconds=[0.01, 0.02, 0.03])
def download(name, folder):
    log = Path(folder, f"{name}.log")
    tried = len(log.read_text()) if log.exists() else 0
    log.write_text("x" * (tried + 1))
    if name != "never" and tried == len(name):
        return f"{name} after {tried}"
    raise ConnectionError(f"{name} is not there")


@flow
def downloads(folder: str):
    futures = [download.submit(name, folder) for name in ("a", "bb", "never")]
    return [str(future.result(raise_on_failure=False)) for future in futures]
