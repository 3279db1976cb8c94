"""Which part of a value cannot be pickled."""

from __future__ import annotations

import functools
import socket
import threading

import pytest

from prefectish.engine.wire.pickle_path import pickle_path

LOCK = threading.Lock()


class Client:
    def __init__(self, lock):
        self.name = "client"
        self.lock = lock

    def call(self):
        return self.name


class Slotted:
    __slots__ = ("empty", "lock")

    def __init__(self, lock):
        self.lock = lock


def closing_over(client):
    def body(x):
        return client, x

    return body


def nested():
    def inner():
        return [LOCK for _ in range(2)]

    return inner


def with_default(x, *, lock=LOCK):
    return x, lock


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda lock: lock, None),
        (lambda lock: [1, {"a": (2, lock)}], "it[1]['a'][1]"),
        (lambda lock: Client(lock), "it.lock"),
        (lambda lock: Slotted(lock), "it.lock"),
        (lambda lock: Client(lock).call, "it.__self__.lock"),
        (lambda lock: functools.partial(print, 1, file=Client(lock)), "it.keywords['file'].lock"),
        (lambda lock: closing_over(Client(lock)), "it.client.lock"),
        (lambda lock: nested(), "it.LOCK"),
        (lambda lock: with_default, "it(lock=)"),
    ],
)
def test_path_leads_to_the_innermost_part(make, path):
    assert pickle_path(make(threading.Lock()), "it") == path


def test_value_that_holds_itself_ends():
    value = Client(threading.Lock())
    value.self = value
    assert pickle_path(value, "it") == "it.lock"


def test_value_whose_attributes_cannot_be_read_is_named_as_a_whole():
    class Hostile:
        @property
        def __dict__(self):
            raise OSError("no")

        def __reduce__(self):
            raise TypeError("not me")

    assert pickle_path(Hostile(), "it") is None


def test_socket_is_named():
    with socket.socket() as link:
        assert pickle_path(closing_over([link]), "fetch") == "fetch.client[0]"
