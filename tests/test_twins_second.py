"""The other half of the random programs of :mod:`test_twins`, for another process."""

from __future__ import annotations

import pytest
from test_twins import BLOCKS, check_all, executors

__all__ = ["executors"]  # the fixture

pytestmark = pytest.mark.filterwarnings("ignore")  # options without effect are drawn, too


@pytest.mark.parametrize("seeds", BLOCKS[1::2], ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_twins_end_alike(executors, seeds):
    assert check_all(executors, seeds) == 50
