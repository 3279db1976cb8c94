"""Code that travels by value keeps its file name and its lines: where it is loaded, and in the states of a run."""

from __future__ import annotations

import inspect
import json
import linecache
import subprocess
import sys
import textwrap

import cloudpickle
import pytest

from prefectish import Flow, source_lines, task
from prefectish.engine.jobs.envelope import dumps
from prefectish.engine.scheduling.causes import cause_of
from prefectish.errors import RemoteError
from prefectish.source_lines import LARGEST_SOURCE, MOST_FILES, dumps_by_value, place_lines, source_of

SOURCE = """\
def divide(x):
    return 1 / x  # by what came


def kept(function):
    return function


@kept
def decorated(x):
    return 1 / x  # after a decorator


smaller = lambda x: 1 / x  # in a lambda


def inner(x):
    def deep():
        return [1 / y for y in [x]]  # in a comprehension

    return deep()


class Item:
    def __init__(self, x=0):
        self.x = x

    def __call__(self, x):
        return 1 / self.x  # in a method
"""

#: Reads a pickle, and prints a value as JSON.
LOAD = "import json, linecache, pickle, sys\nfunction = pickle.load(sys.stdin.buffer)\n"
#: Calls what it read with 0, and prints the traceback.
CALL = f"""{LOAD}
import traceback
try:
    function(0)
except Exception:
    print(json.dumps(traceback.format_exc()))
"""


@pytest.fixture(autouse=True)
def forget():
    """Leave no lines to the next test."""
    yield
    for name in [*source_lines._placed, *(name for name in linecache.cache if name.startswith("<ipython-input"))]:
        linecache.cache.pop(name, None)
    source_lines._placed.clear()


def script(path, source=SOURCE):
    """Write a script and return the names that it defines, as they are while it runs."""
    path.write_text(source)
    return defined(str(path), source)


def cell(name="<ipython-input-3-c0ffee>", source=SOURCE):
    """Return the names that a cell of a notebook defines; its lines are in `linecache` alone."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    return defined(name, source)


def defined(name, source=SOURCE):
    names = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), names)
    return names


def elsewhere(code, content):
    """Give a pickle to a new process; return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], input=content, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "line", "where"),
    [
        ("divide", "return 1 / x  # by what came", "divide"),
        ("decorated", "return 1 / x  # after a decorator", "decorated"),
        ("smaller", "smaller = lambda x: 1 / x  # in a lambda", "<lambda>"),
        ("inner", "return [1 / y for y in [x]]  # in a comprehension", "deep"),
        ("Item", "return 1 / self.x  # in a method", "__call__"),
    ],
)
@pytest.mark.parametrize("make", ["script", "cell"])
def test_traceback_shows_file_and_line_where_the_file_is_missing(tmp_path, make, name, line, where):
    path = tmp_path / "script.py"
    names = script(path) if make == "script" else cell()
    content = dumps(names[name]() if name == "Item" else names[name])
    path.unlink(missing_ok=True)
    file = path if make == "script" else "<ipython-input-3-c0ffee>"
    assert f'File "{file}", line {number_of(line)}, in {where}\n    {line}' in elsewhere(CALL, content)


def number_of(text):
    return SOURCE[: SOURCE.index(text)].count("\n") + 1


def test_code_keeps_its_first_line(tmp_path):
    path = tmp_path / "script.py"
    content = dumps(script(path)["inner"])
    show = LOAD + (
        "deep = next(c for c in function.__code__.co_consts if hasattr(c, 'co_filename'))\n"
        "print(json.dumps([(c.co_filename, c.co_firstlineno) for c in (function.__code__, deep)]))"
    )
    assert elsewhere(show, content) == [
        [str(path), number_of("def inner")],
        [str(path), number_of("def deep")],
    ]


def test_function_without_source_keeps_its_name():
    function = defined("<made by a template>")["divide"]
    show = LOAD + "print(json.dumps([function.__code__.co_filename, list(linecache.cache)]))"
    name, cached = elsewhere(show, dumps(function))
    assert name == "<made by a template>"
    assert name not in cached


def test_lines_survive_checkcache_and_serve_inspect(tmp_path):
    path = tmp_path / "script.py"
    function = script(path)["decorated"]
    text = inspect.getsource(function)
    content = dumps(function)
    path.unlink()
    show = LOAD + "import inspect\nlinecache.checkcache()\nprint(json.dumps(inspect.getsource(function)))"
    assert elsewhere(show, content) == text


def test_debugger_lists_the_lines():
    content = dumps(cell()["divide"])
    debug = LOAD + (
        "import io, pdb\n"
        "out = io.StringIO()\n"
        "debugger = pdb.Pdb(stdin=io.StringIO('longlist\\ncontinue\\n'), stdout=out, nosigint=True, readrc=False)\n"
        "debugger.runcall(function, 1)\n"
        "print(json.dumps(out.getvalue()))"
    )
    said = elsewhere(debug, content)
    assert "-> return 1 / x  # by what came" in said
    assert "  1  \tdef divide(x):" in said


def test_file_that_exists_and_the_same_is_not_placed(tmp_path):
    path = tmp_path / "script.py"
    content = dumps(script(path)["divide"])
    show = LOAD + f"print(json.dumps(linecache.cache[{str(path)!r}][1] is not None))"
    assert elsewhere(show, content) is True


def test_file_of_another_content_does_not_hide_the_lines_that_came(tmp_path):
    path = tmp_path / "script.py"
    content = dumps(script(path)["divide"])
    path.write_text("def divide(x):\n    return 2 / x  # of a later version\n")
    assert "return 1 / x  # by what came" in elsewhere(CALL, content)


def test_lines_of_an_imported_file_are_those_of_the_file(tmp_path, monkeypatch):
    path = tmp_path / "reloaded.py"
    path.write_text("A = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "reloaded", raising=False)
    __import__("reloaded")
    place_lines(str(path), 1, "A = 0\n")
    assert linecache.getline(str(path), 1) == "A = 1\n"
    monkeypatch.delitem(sys.modules, "reloaded")
    place_lines(str(path), 1, "A = 0\n")
    assert linecache.getline(str(path), 1) == "A = 0\n"


def test_functions_of_a_file_are_placed_beside_one_another():
    name = "<ipython-input-7-f00d>"
    place_lines(name, 5, "b = 2\n")
    place_lines(name, 1, "a = 1\n")
    assert linecache.getlines(name) == ["a = 1\n", "\n", "\n", "\n", "b = 2\n"]
    place_lines(name, 5, "b = 3\nc = 4\n")
    assert linecache.getlines(name)[4:] == ["b = 3\n", "c = 4\n"]


def test_oldest_files_give_way(monkeypatch):
    for k in range(MOST_FILES + 2):
        place_lines(f"<ipython-input-{k}>", 1, "pass\n")
    assert len(source_lines._placed) == MOST_FILES
    assert "<ipython-input-1>" not in linecache.cache
    assert linecache.getline(f"<ipython-input-{MOST_FILES + 1}>", 1) == "pass\n"


def test_module_registered_by_value_brings_its_lines(tmp_path, monkeypatch):
    path = tmp_path / "by_value_module.py"
    path.write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    module = __import__("by_value_module")
    cloudpickle.register_pickle_by_value(module)
    try:
        content = dumps(module.divide)
    finally:
        cloudpickle.unregister_pickle_by_value(module)
        del sys.modules["by_value_module"]
    path.unlink()
    text = elsewhere(CALL, content)
    assert f'File "{path}", line 2, in divide\n    return 1 / x  # by what came' in text


def test_function_brings_its_own_lines_and_no_others(tmp_path):
    alone = dumps(script(tmp_path / "alone.py")["divide"])
    large = dumps(script(tmp_path / "large.py", SOURCE + "x = 1  # a line\n" * 100_000)["divide"])
    assert len(large) == len(alone)
    assert b"by what came" in large


def test_source_beyond_the_largest_stays_at_home(tmp_path):
    lines = "    x = x + 1 if x else 0  # " + "and so on " * 9 + "\n"
    body = "def long(x):\n" + lines * (LARGEST_SOURCE // len(lines) + 1) + "    return short(x)\n"
    names = script(tmp_path / "long.py", body + "\ndef short(x):\n    return 1 / x\n")
    content = dumps(names["long"])
    assert b"and so on" not in content
    assert b"    return 1 / x" in content


def test_source_of_a_function_ends_at_its_last_statement():
    code = cell(source="def f(x):\n    return max(\n        x,\n        1,\n    )\n\n\ny = 2")["f"].__code__
    assert source_of(code) == "def f(x):\n    return max(\n        x,\n        1,\n    )\n"
    assert source_of(cell("<ipython-input-9>", "g = lambda: 0")["g"].__code__) == "g = lambda: 0\n"


def test_what_is_stored_has_file_names_and_needs_no_prefectish():
    content = dumps_by_value(cell()["divide"], lines=False)
    assert b"prefectish" not in content
    assert b"by what came" not in content
    assert '<ipython-input-3-c0ffee>", line 2, in divide' in elsewhere(CALL, content)


def test_children_show_the_lines_of_a_cell_on_every_executor(run):
    divide = task(cell()["divide"])
    alone = task(name="alone", isolation="process")(cell()["divide"])
    of_another_cell = task(cell("<ipython-input-4-beef>")["divide"])
    with Flow("cells") as flow:
        children = [divide.map([0, 1]), alone.map([0, 1]), of_another_cell.map([0, 1])]
    state = run(flow)
    failed = [state.result[mapped].map_states[0] for mapped in children]
    for child, name in zip(failed, ["3-c0ffee", "3-c0ffee", "4-beef"], strict=True):
        expected = f'File "<ipython-input-{name}>", line 2, in divide\n    return 1 / x  # by what came'
        assert expected in child.traceback
    first, same, other = (cause_of(child).fingerprint for child in failed)
    assert first == same != other


def test_exception_that_cannot_be_carried_shows_the_lines_in_its_text(run):
    source = textwrap.dedent("""\
        class Held(Exception):
            def __reduce__(self):
                raise TypeError("stays here")


        def fail(x):
            raise Held("as told")  # in a cell
        """)
    fail = task(cell("<ipython-input-5-fade>", source)["fail"])
    with Flow("remote") as flow:
        children = fail.map([0])
    child = run(flow).result[children].map_states[0]
    line = 'File "<ipython-input-5-fade>", line 7, in fail\n    raise Held("as told")  # in a cell'
    assert line in child.traceback
    if isinstance(child.result, RemoteError):  # it came from another process
        assert line in child.result.traceback
