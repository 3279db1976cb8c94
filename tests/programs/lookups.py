"""Slow look-ups, each made once: a cached task."""

from datetime import timedelta
from pathlib import Path

from prefectish import flow, task
from prefectish.tasks import task_input_hash


@task(cache_key_fn=task_input_hash, cache_expiration=timedelta(hours=1))
def look_up(word, folder):
    with Path(folder, "asked").open("a") as asked:
        asked.write(f"{word}\n")
    return word[::-1]


@flow
def lookups(words: list[str], folder: str):
    return look_up.map(words, [folder] * len(words)).result()
