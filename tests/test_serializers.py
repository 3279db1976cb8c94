"""Serializers: what they write they read, and others can be added."""

from __future__ import annotations

import base64
import json
import os
import pickle
import tracemalloc
import zlib
from datetime import date

import pytest

from prefectish.errors import ResultCorrupt, ResultUnpickleError
from prefectish.results import (
    JSONSerializer,
    LocalResult,
    PickleSerializer,
    Serializer,
    compression,
    register_compression,
    register_serializer,
    serializers,
)


class Hex:
    """Writes text, readably."""

    name = "hex"

    def serialize(self, value):
        return value.encode().hex().encode()

    def deserialize(self, content):
        return bytes.fromhex(bytes(content).decode()).decode()


class Nameless:
    def serialize(self, value):
        return b""

    def deserialize(self, content):
        return None


@pytest.fixture(autouse=True)
def _registry(monkeypatch):
    for module in (serializers, compression):
        monkeypatch.setattr(module, "_REGISTERED", dict(module._REGISTERED))


@pytest.mark.parametrize("serializer", [PickleSerializer(), JSONSerializer()])
@pytest.mark.parametrize("value", [None, 1, "é", [1, {"a": None}], 1.5, True])
def test_value_comes_back(serializer, value):
    content = serializer.serialize(value)
    assert serializer.deserialize(content) == value
    assert serializer.deserialize(memoryview(content)) == value
    assert isinstance(serializer, Serializer)


def test_pickle_takes_functions_along():
    def double(x):
        return 2 * x

    assert PickleSerializer().deserialize(PickleSerializer().serialize(double))(4) == 8


def test_json_is_readable_and_refuses_what_it_cannot_write(tmp_path):
    assert json.loads(JSONSerializer().serialize({"a": [1]})) == {"a": [1]}
    with pytest.raises(TypeError, match="not JSON serializable"):
        LocalResult(tmp_path, serializer="json").save("a", date(2026, 1, 1))


def test_file_of_json_ends_with_the_text(tmp_path):
    LocalResult(tmp_path, serializer="json").save("a", {"b": 1})
    assert (tmp_path / "a").read_bytes().endswith(b'\n{"b": 1}')


def test_registered_serializer_is_chosen_by_its_name_and_travels_with_the_store(tmp_path, monkeypatch):
    register_serializer("hex", Hex())
    store = LocalResult(tmp_path, serializer="hex")
    content = pickle.dumps(store)
    monkeypatch.setattr(serializers, "_REGISTERED", {})
    pickle.loads(content).save("a", "text")
    assert store.load("a") == "text"
    assert store.facts("a")["serializer"] == "hex"


def test_serializer_can_be_given_as_it_is(tmp_path):
    store = LocalResult(tmp_path, serializer=Nameless())
    store.save("a", 1)
    assert store.load("a") is None
    assert store.facts("a")["serializer"] == "Nameless"


def test_registering_twice_is_harmless_and_another_of_the_same_name_is_refused():
    ours = Hex()
    register_serializer("hex", ours)
    register_serializer("hex", ours)
    for name in ("hex", "pickle"):
        with pytest.raises(ValueError, match=f"serializer '{name}' is already registered"):
            register_serializer(name, Hex())


@pytest.mark.parametrize("wrong", [None, "pickle", Exception(), print])
def test_what_cannot_serialize_is_refused(wrong):
    with pytest.raises(TypeError, match="serializer 'wrong' must have the methods serialize and deserialize, got "):
        register_serializer("wrong", wrong)
    with pytest.raises(TypeError, match="the name of a serializer must be a non-empty string, got ''"):
        register_serializer("", Hex())


def test_class_of_a_serializer_is_not_a_serializer(tmp_path):
    with pytest.raises(TypeError, match="serializer must be a name, or an object with serialize and deserialize,"):
        LocalResult(tmp_path, serializer=Hex)


def test_compression_can_be_added(tmp_path):
    register_compression("base64", base64.b64encode, base64.b64decode)
    store = LocalResult(tmp_path, serializer="json", compression="base64")
    store.save("a", "text")
    assert (tmp_path / "a").read_bytes().endswith(base64.b64encode(b'"text"'))
    assert store.load("a") == "text"


def test_compression_that_is_not_registered_here_is_named(tmp_path, monkeypatch):
    register_compression("base64", base64.b64encode, base64.b64decode)
    store = LocalResult(tmp_path, compression="base64")
    store.save("a", 1)
    monkeypatch.setattr(compression, "_REGISTERED", {})
    with pytest.raises(
        ResultUnpickleError, match=r'a: cannot be loaded here: ValueError\("compression must be None or one'
    ):
        store.load("a")


@pytest.mark.parametrize("name", ["gzip", "bz2", "xz", "own"])
def test_x19_what_is_decompressed_is_bounded(tmp_path, monkeypatch, name):
    register_compression("own", zlib.compress, zlib.decompress)
    store = LocalResult(tmp_path, serializer="json", compression=name)
    store.save("a", "x" * 100_000)
    monkeypatch.setenv("PREFECTISH_MAX_RESULT_BYTES", "50000")
    with pytest.raises(
        ResultCorrupt, match=r"a: a compressed result must have at most 50,000 bytes .* max_result_bytes"
    ):
        store.load("a")
    with pytest.raises(ValueError, match="must have at most 50,000 bytes"):
        store.save("b", "x" * 100_000)


@pytest.mark.parametrize("name", ["gzip", "bz2", "xz"])
def test_x19_no_more_than_the_limit_is_decompressed(name):
    packed = compression.compressed(name, bytes(200_000_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECTISH_MAX_RESULT_BYTES", "1000000")
        tracemalloc.start()
        with pytest.raises(compression.TooLarge):
            compression.decompressed(name, packed)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("name", ["gzip", "bz2", "xz"])
def test_compressed_content_that_was_cut_is_no_result(name):
    with pytest.raises(EOFError):
        compression.decompressed(name, compression.compressed(name, os.urandom(1000))[:-20])
