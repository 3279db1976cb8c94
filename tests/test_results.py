"""Stores of results: what is written is read, damage and strangers are found, and nothing outside is touched."""

from __future__ import annotations

import os
import pickle
import stat
import sys
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from prefectish.errors import ResultCorrupt, ResultStoreNotShared, ResultUnpickleError
from prefectish.results import FSResult, LocalResult, Result
from prefectish.results.envelope import MAGIC, NotAResultFile, seal, unseal
from prefectish.results.folder import Folder
from prefectish.results.probes import check_probes, leave_probe
from prefectish.results.remote import Remote


@pytest.fixture(params=["folder", "memory", "file", "slow"])
def store(request, tmp_path, monkeypatch):
    if request.param == "folder":
        return LocalResult(tmp_path / "store")
    if request.param == "file":
        return FSResult(f"file://{tmp_path}/store")
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    if request.param == "slow":  # a file system where a put can be cut short
        monkeypatch.setattr("prefectish.results.remote.OBJECT_STORES", frozenset())
    return FSResult("memory://bucket/store")


def file_of(store: Result, location: str) -> Path:
    return Path(store.store.root, location)


def alter(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_value_comes_back_with_its_facts(store):
    assert store.save("run/load/eu", {"rows": [1, 2]}, {"item": "eu"}) == "run/load/eu"
    assert store.load("run/load/eu") == {"rows": [1, 2]}
    assert store.facts("run/load/eu")["item"] == "eu"
    assert store.exists("run/load/eu")
    assert not store.exists("run/load")


def test_bytes_come_back_and_are_replaced(store):
    store.write("a/b", b"first")
    store.write("a/b", b"\nsecond\n")
    assert store.read("a/b") == b"\nsecond\n"
    assert store.write("empty", b"") == "empty"
    assert store.read("empty") == b""


def test_missing_result_is_a_missing_file(store):
    assert not store.exists("none/there")
    with pytest.raises(FileNotFoundError):
        store.load("none/there")


def test_list_names_what_lies_in_a_folder(store):
    for name in ("b/2", "b/1", "a", "b/c/3", "bb/4"):
        store.write(name, b"")
    assert list(store.list()) == ["a", "b/1", "b/2", "b/c/3", "bb/4"]
    assert list(store.list("b/")) == ["b/1", "b/2", "b/c/3"]
    assert list(store.list("none")) == []


def test_delete_removes_and_does_not_miss(store):
    store.write("a/b", b"")
    store.delete("a/b")
    store.delete("a/b")
    assert not store.exists("a/b")


def test_store_survives_a_pickle_and_stays_small(store):
    store.write("a", b"1")
    copy = pickle.loads(pickle.dumps(store))
    assert copy.read("a") == b"1"
    assert len(pickle.dumps(store)) < 1000


@pytest.mark.parametrize("compression", [None, "gzip", "bz2", "xz"])
def test_compressed_value_comes_back_wherever_it_is_read(tmp_path, compression):
    LocalResult(tmp_path, compression=compression).save("a", "text" * 1000)
    assert LocalResult(tmp_path).load("a") == "text" * 1000
    assert (os.path.getsize(tmp_path / "a") < 1000) == (compression is not None)


def test_equal_values_make_equal_files(tmp_path):
    for name in "ab":
        LocalResult(tmp_path / name, compression="gzip").save("x", [1, 2])
    assert (tmp_path / "a" / "x").read_bytes() == (tmp_path / "b" / "x").read_bytes()


def test_default_folder_is_in_the_home(prefectish_home):
    assert LocalResult().dir == os.path.join(prefectish_home, "results")


def test_folder_is_settled_when_the_store_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = LocalResult("here")
    assert store.dir == str(tmp_path / "here")
    assert FSResult("here").store.root == str(tmp_path / "here")
    assert LocalResult("~/there").dir == os.path.expanduser("~/there")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"serializer": "yaml"}, ValueError, "serializer must be one of 'pickle', 'json', got 'yaml'; add others with"),
        ({"serializer": 3}, TypeError, "serializer must be a name, or an object with serialize and deserialize,"),
        ({"compression": "rar"}, ValueError, "compression must be None or one of 'gzip', 'bz2', 'xz', got 'rar'; add"),
        ({"hmac_key": 3}, TypeError, "hmac_key must be bytes, a string or a function that returns them, got"),
        ({"hmac_key": ""}, ValueError, "hmac_key must not be empty: anyone who can write to the store could"),
        ({"location": 3}, TypeError, "location must be a template or a function, got 3"),
        ({"location": "a$"}, ValueError, r"template 'a\$': '\$' without a field; write \$\{name\}, or \$\$ for a"),
    ],
)
def test_option_that_makes_no_sense_is_refused(tmp_path, options, error, text):
    with pytest.raises(error, match=text):
        LocalResult(tmp_path, **options)


# ------------------------------------------------------------------------------------------ damage: H7, H8


@pytest.mark.parametrize("kept", [0, 5, 20, 40, 100, 160, -1])
def test_h7_file_that_was_cut_short_is_corrupt(tmp_path, kept):
    store = LocalResult(tmp_path)
    store.save("a", "x" * 100)
    path = tmp_path / "a"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ResultCorrupt, match=r"^a: ") as caught:
        store.load("a")
    assert caught.value.exit_code == 4
    assert not isinstance(caught.value, NotAResultFile)


def test_h7_file_with_more_behind_it_is_corrupt(tmp_path):
    store = LocalResult(tmp_path)
    store.write("a", b"abc")
    with (tmp_path / "a").open("ab") as file:
        file.write(b"d")
    with pytest.raises(ResultCorrupt, match="a: truncated or extended: expected 6 bytes, got 7"):
        store.read("a")


@pytest.mark.parametrize("key", [None, b"key"])
def test_h7_no_byte_can_be_flipped_unseen(key):
    file = b"".join(seal("a", {"item": "eu"}, b"some content", key))
    assert unseal("a", file, key)[1] == b"some content"
    for at in range(len(file)):
        for bit in (1, 32, 128):
            altered = bytearray(file)
            altered[at] ^= bit
            with pytest.raises(ResultCorrupt):
                unseal("a", bytes(altered), key)


@given(
    st.binary(), st.dictionaries(st.text(), st.text() | st.integers() | st.none()), st.none() | st.binary(min_size=1)
)
def test_file_opens_to_what_was_sealed(content, facts, key):
    opened = unseal("name", b"".join(seal("name", facts, content, key)), key)
    assert opened == (facts, content)


@given(st.binary(max_size=200))
def test_h7_any_bytes_are_refused_as_corrupt(content):
    for file in (content, MAGIC + content):
        with pytest.raises(ResultCorrupt):
            unseal("name", file, None)


def test_h8_leftover_of_a_dead_worker_is_not_a_result(store):
    store.write("run/a", b"1")
    if isinstance(store.store, Folder):
        file_of(store, "run/.0123.tmp").write_bytes(b"half")
        file_of(store, "run/b.tmp").write_bytes(b"half")
    else:
        system, root = store.store._system()
        system.pipe_file(f"{root}/run/.0123.tmp", b"half")
    assert list(store.list()) == ["run/a"]
    with pytest.raises(ValueError, match="unsafe name"):
        store.exists("run/b.tmp")


def test_failed_write_leaves_the_old_result_and_nothing_else(store, monkeypatch):
    store.write("run/a", b"old")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    monkeypatch.setattr(MemoryFileSystem, "mv", fail)
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", fail)
    with pytest.raises(OSError, match="No space"):
        store.write("run/a", b"new")
    assert store.read("run/a") == b"old"
    assert list(store.list()) == ["run/a"]
    if isinstance(store.store, Folder):
        assert os.listdir(file_of(store, "run")) == ["a"]


def test_readers_find_all_of_a_file_or_nothing(tmp_path, monkeypatch):
    store = LocalResult(tmp_path)
    seen = []
    replace = os.replace

    def watched(source, target):
        seen.append((store.exists("a"), os.path.dirname(source) == os.path.dirname(target)))
        replace(source, target)

    monkeypatch.setattr("os.replace", watched)
    store.write("a", b"1")
    assert seen == [(False, True)]
    assert store.read("a") == b"1"


def test_file_reaches_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    LocalResult(tmp_path).write("a", b"1")
    assert calls == ["fsync", "replace", "fsync"]


# -------------------------------------------------------------------------------- strangers: X4, X5, X12, X13


class Marker:
    """A pickle that leaves a trace where it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("form", ["bare", "unsigned", "other key", "other place"])
def test_x4_pickle_of_a_stranger_is_never_opened(tmp_path, form):
    marker = tmp_path / "marker"
    store = LocalResult(tmp_path / "store", hmac_key=b"key")
    evil = pickle.dumps(Marker(marker))
    facts = {"serializer": "pickle", "compression": None}
    files = {
        "bare": [evil],
        "unsigned": seal("a", facts, evil, None),
        "other key": seal("a", facts, evil, b"guess"),
        "other place": seal("b", facts, evil, b"key"),
    }
    store.write("a", b"")
    file_of(store, "a").write_bytes(b"".join(files[form]))
    with pytest.raises(ResultCorrupt, match=r"^a: "):
        store.load("a")
    assert not marker.exists()


def test_x4_foreign_file_is_distinguished_from_a_damaged_one(tmp_path):
    (tmp_path / "a").write_bytes(pickle.dumps(Marker(tmp_path / "marker")))
    with pytest.raises(NotAResultFile, match=r"^a: not written by a result store; nothing in it was loaded$"):
        LocalResult(tmp_path).load("a")
    assert not (tmp_path / "marker").exists()


def test_x4_store_of_json_never_opens_a_pickle(tmp_path):
    LocalResult(tmp_path).save("a", Marker(tmp_path / "marker"))
    with pytest.raises(ResultCorrupt, match="a: written by serializer 'pickle', but this store reads 'json'"):
        LocalResult(tmp_path, serializer="json").load("a")
    assert not (tmp_path / "marker").exists()


def test_signed_file_is_read_with_its_key_and_also_without_any(tmp_path):
    LocalResult(tmp_path, hmac_key="key").save("a", 1)
    assert LocalResult(tmp_path, hmac_key=lambda: b"key").load("a") == 1
    assert LocalResult(tmp_path).load("a") == 1


def read_key():
    return "swordfish"


@pytest.mark.parametrize(("key", "error"), [(None, TypeError), ("", ValueError), (3, TypeError)])
def test_x4_function_that_has_no_key_leaves_nothing_unsigned(tmp_path, key, error):
    LocalResult(tmp_path).save("a", 1)
    signed = LocalResult(tmp_path, hmac_key=lambda: key)
    for use in (lambda: signed.save("b", 1), lambda: signed.load("a")):
        with pytest.raises(error, match="hmac_key"):
            use()
    assert list(signed.list()) == ["a"]


def test_x11_key_is_not_in_the_repr_and_a_function_keeps_it_out_of_the_pickle(tmp_path):
    assert "swordfish" not in repr(LocalResult(tmp_path, hmac_key="swordfish"))
    assert b"swordfish" not in pickle.dumps(LocalResult(tmp_path, hmac_key=read_key))


def test_x12_credentials_in_a_url_are_not_shown():
    shown = repr(FSResult("s3://user:swordfish@bucket/x", storage_options={"secret": "swordfish"}))
    assert "swordfish" not in shown
    assert "s3://***@bucket/x" in shown


BAD_NAMES = [
    "../x", "a/../../x", "..", ".", "", "/etc/passwd", "a//b", "a/", "./a", "C:/x", "c:x", "a\\..\\x", "\\\\host\\x",
    "a\0b", "a\nb", "x" * 300, "é" * 150, "/".join(["abcdefgh"] * 120), "CON", "a/con.txt", "NUL", "Aux.tar.gz", "COM1",
    "lpt9.x", "a.", "a ", "a./b", "a.tmp", "\ud800", "s3://bucket/x", "\x1b[31m",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize("action", ["write", "save", "read", "load", "facts", "exists", "delete"])
def test_x5_unsafe_name_is_refused_and_nothing_is_touched(tmp_path, name, action):
    store = LocalResult(tmp_path / "deep" / "store")
    arguments = {"write": (b"",), "save": (1,)}.get(action, ())
    with pytest.raises(ValueError, match=r"^unsafe name "):
        getattr(store, action)(name, *arguments)
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("name", ["a", "a/b", "Ünïcode", "with space", "a..b", "...a", "x" * 200, "console", "com10"])
def test_x5_harmless_name_is_kept(tmp_path, name):
    store = LocalResult(tmp_path)
    store.write(name, b"1")
    assert list(store.list()) == [name]


def test_x5_links_out_of_the_store_are_refused(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    LocalResult(outside).write("secret", b"1")
    store = LocalResult(tmp_path / "store")
    store.write("a", b"1")
    (tmp_path / "store" / "folder").symlink_to(outside)
    (tmp_path / "store" / "file").symlink_to(outside / "secret")
    (tmp_path / "store" / "dangling").symlink_to(outside / "new")
    for action, *arguments in (("write", b""), ("read",), ("exists",)):
        for name in ("folder/secret", "folder/new/x", "file", "dangling"):
            with pytest.raises(ValueError, match=r"unsafe name .*: a link leads out of"):
                getattr(store, action)(name, *arguments)
    with pytest.raises(ValueError, match="unsafe name"):
        store.delete("folder/secret")
    store.delete("file")
    assert os.listdir(outside) == ["secret"]
    assert LocalResult(outside).read("secret") == b"1"
    assert set(store.list()) == {"a", "dangling"}


def test_x5_store_may_itself_lie_behind_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    LocalResult(tmp_path / "link").write("a/b", b"1")
    assert LocalResult(tmp_path / "real").read("a/b") == b"1"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes")
def test_x13_files_and_folders_are_their_users_alone(tmp_path):
    before = os.umask(0)
    try:
        LocalResult(tmp_path / "home" / "store").write("a/b/c", b"1")
    finally:
        os.umask(before)
    modes = {path.relative_to(tmp_path).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    folders = ["home", "home/store", "home/store/a", "home/store/a/b"]
    assert modes == dict.fromkeys(folders, 0o700) | {"home/store/a/b/c": 0o600}


# ------------------------------------------------------------------------------------------ what cannot be read


def test_value_whose_class_is_gone_says_so(tmp_path):
    store = LocalResult(tmp_path)

    def vanish():
        raise ImportError("no module named gone")

    class Vanishing:
        def __reduce__(self):
            return vanish, ()

    store.save("a", Vanishing())
    with pytest.raises(ResultUnpickleError, match=r"^a: cannot be loaded here: ImportError\('no module named gone'\)$"):
        store.load("a")


def test_value_that_cannot_be_written_is_an_error_and_leaves_no_file(tmp_path):
    with pytest.raises(TypeError, match="cannot pickle"):
        LocalResult(tmp_path).save("a", (n for n in "ab"))
    assert os.listdir(tmp_path) == []


def test_path_of_universal_pathlib_opens_what_was_written(monkeypatch):
    upath = pytest.importorskip("upath")
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    store = FSResult(upath.UPath("memory://bucket/x"))
    store.write("a/b", b"content")
    assert store.path("a/b").read_bytes().endswith(b"content")
    assert store.path().exists()


def test_path_names_the_extra_that_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(ImportError, match=r'FSResult.path needs upath.*pip install "prefectish\[results\]"'):
        FSResult("memory://x").path("a")


def test_file_system_is_opened_where_it_is_used():
    copy = pickle.loads(pickle.dumps(Remote("memory://x", {"a": 1})))
    assert (copy.url, copy.options, copy._opened) == ("memory://x", {"a": 1}, None)


# ------------------------------------------------------------------------------------------ sharing: H9


def test_h9_probes_of_workers_that_share_the_store_are_found_and_removed(store):
    check_probes(store, {f"tcp://w{i}": leave_probe(store, "r1") for i in range(3)})
    assert list(store.list()) == []


def test_h9_workers_with_a_disk_of_their_own_are_named(tmp_path):
    here, there = LocalResult(tmp_path / "here"), LocalResult(tmp_path / "there")
    left = {"tcp://a": leave_probe(here, "r1"), **{f"tcp://{w}": leave_probe(there, "r1") for w in "edcb"}}
    with pytest.raises(
        ResultStoreNotShared, match="cannot read what tcp://b, tcp://c, tcp://d and 1 more wrote there"
    ) as caught:
        check_probes(here, left)
    assert caught.value.exit_code == 3
    assert list(here.list()) == []
