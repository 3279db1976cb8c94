"""Frames on the pipe between a worker and the process of an isolated body."""

from __future__ import annotations

import io

import pytest

from prefectish.engine.worker.isolation import frames


def test_frames_are_read_as_they_were_written():
    pipe = io.BytesIO()
    frames.write(pipe, frames.BEGAN)
    frames.write(pipe, frames.PRINTED, b"x" * 100_000)
    frames.write(pipe, frames.ENDED, b"the end")
    pipe.seek(0)
    assert [frames.read(pipe) for _ in range(4)] == [
        (frames.BEGAN, b""),
        (frames.PRINTED, b"x" * 100_000),
        (frames.ENDED, b"the end"),
        None,
    ]


@pytest.mark.parametrize("length", [1, 8, 9, 12])
def test_frame_that_breaks_off_is_the_end(length):
    pipe = io.BytesIO()
    frames.write(pipe, frames.ENDED, b"1234")
    assert frames.read(io.BytesIO(pipe.getvalue()[:length])) is None


def test_pipe_that_gives_a_few_bytes_at_a_time_is_read_to_the_end():
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(min(size, 3))

    pipe = io.BytesIO()
    frames.write(pipe, frames.LOGGED, b"0123456789")
    assert frames.read(Slow(pipe.getvalue())) == (frames.LOGGED, b"0123456789")
