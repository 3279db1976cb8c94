"""Files written as the documentation of Prefect 1 writes them run as they are."""

from __future__ import annotations

import pytest
from idioms import IDIOMS, run_idiom

from prefectish.prefect_names import PLACES


@pytest.mark.parametrize("path", IDIOMS, ids=lambda path: path.stem)
def test_file_runs_as_it_is(path, executor, tmp_path):
    run_idiom(path, path.read_text(), tmp_path, executor)


def test_the_idioms_use_most_modules_of_the_table():
    text = "".join(path.read_text() for path in IDIOMS)
    used = {module for module in PLACES if f"from {module} import" in text}
    assert len(used) >= 12
