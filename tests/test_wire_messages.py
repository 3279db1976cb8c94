"""Messages between client and workers, by themselves."""

from __future__ import annotations

import pickle

import pytest

from prefectish.engine.jobs.envelope import encode, weight
from prefectish.engine.jobs.job import Record
from prefectish.engine.state import Failed, Retrying, Success
from prefectish.engine.state_column import SUCCEEDED
from prefectish.engine.wire.messages import RECORD_BYTES, Batch, Call, Gathered, StepResult, open_batch

PLAIN = Record(Success(SUCCEEDED, 5), 1.5, worker="host:1", item_key="a")


def sent(message):
    return pickle.loads(pickle.dumps(message, protocol=5))


def test_call_arrives_field_by_field():
    call = Call(1, 17, (Success(None, 2),), {0: Success(None, 1)}, None, (0,), 4096, True)
    there = sent(call)
    assert there.values()[:2] == (1, 17)
    assert there.values()[4:] == call.values()[4:]
    assert there.items[0].result == 2
    assert there.given[0].result == 1


@pytest.mark.parametrize(
    "record",
    [
        PLAIN,
        PLAIN.replace(width=3),
        PLAIN.with_state(Success("a message", 5)),
        PLAIN.with_state(Success(SUCCEEDED, 5, context={"tags": ["a"]})),
        PLAIN.with_state(Failed("no")),
        Record(Retrying("soon"), 0.5, 3.0),
    ],
    ids=["plain", "width", "message", "context", "failed", "retrying"],
)
def test_record_is_the_same_at_the_client(record):
    there = sent(StepResult(1, record))
    assert there.position == 1
    assert repr(there.record.state) == repr(record.state)
    assert there.record.state.result == record.state.result
    assert there.record.values()[1:] == record.values()[1:]


def test_plain_success_is_sent_in_fewer_bytes():
    plain, other = StepResult(0, PLAIN), StepResult(0, PLAIN.with_state(Success("a message", 5)))
    assert len(pickle.dumps(plain)) < 0.7 * len(pickle.dumps(other))


def test_earlier_records_are_sent_too():
    there = sent(StepResult(1, PLAIN, ((0, PLAIN),)))
    assert [(position, record.state.result) for position, record in there.small] == [(0, 5)]


@pytest.mark.parametrize(
    ("result", "nbytes"), [(5, 8), (None, 8), ("x" * 100, 100), (b"y" * 50, 50)], ids=["int", "none", "str", "bytes"]
)
def test_size_of_a_simple_result(result, nbytes):
    assert weight(result) == nbytes
    message = StepResult(0, Record(Success(None, result)), ((1, PLAIN),))
    assert message.nbytes == nbytes + 2 * RECORD_BYTES


def test_size_of_an_envelope_is_that_of_its_bytes():
    packed = encode(list(range(1000)), "load-1")
    assert weight(packed) == packed.nbytes > 1000


def test_batch_knows_records_of_its_branches_and_which_did_not_start():
    gathered = Gathered(1)
    gathered.add(0, [(0, Record(Success(SUCCEEDED, 5), 1.5, item_key="a"))])
    gathered.add(1, [(0, PLAIN), (1, Record(Failed("no")))])
    gathered.add(2, None)
    content = gathered.packed("host:1")
    batch = sent(Batch(content, {(1, 0): "large"}))
    single, several, unstarted = (open_batch(batch).of(number) for number in range(3))
    assert single[0][1].values()[1:] == PLAIN.values()[1:]
    assert single[0][1].state.result == 5
    assert [record.state.is_failed() for _, record in several] == [False, True]
    assert unstarted is None
    assert batch.nbytes == len(content) + 5
