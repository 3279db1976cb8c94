"""The bytes of a chain: when they are in a call, and when in a key of their own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from prefectish.engine.wire.pack import HEAVY
from prefectish.executors.chain_bytes import SMALL, ChainBytes


@pytest.fixture
def key():
    return SimpleNamespace(status="pending", sent=[])


def chain_bytes(size, key):
    payload = bytes(size)
    return ChainBytes(payload, lambda sent: key.sent.append(sent) or key), payload


def test_small_bytes_are_in_every_call(key):
    content, payload = chain_bytes(SMALL, key)
    assert content.are_small
    assert [content.reference(alone) for alone in (False, True, True)] == [payload] * 3
    assert not key.sent


def test_jobs_of_a_map_read_a_key_from_the_first_on(key):
    content, payload = chain_bytes(SMALL + 1, key)
    assert [content.reference(False) for _ in range(3)] == [key] * 3
    assert key.sent == [payload]


def test_job_that_comes_alone_carries_them_until_their_key_is_made(key):
    content, payload = chain_bytes(SMALL + 1, key)
    assert content.reference(True) is payload
    assert not key.sent  # there may be no second
    assert content.reference(True) is payload
    assert key.sent == [payload]
    key.status = "finished"
    assert content.reference(True) is key
    assert key.sent == [payload]


def test_jobs_carry_no_more_than_the_bound(key):
    content, payload = chain_bytes(HEAVY // 3 + 1, key)
    assert [content.reference(True) for _ in range(4)] == [payload, payload, key, key]
    assert chain_bytes(HEAVY + 1, key)[0].reference(True) is key
