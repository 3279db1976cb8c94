"""Both spellings of a program, as source that runs by itself: ``with Flow(...)`` and a flow function."""

from __future__ import annotations

from twins_programs import SHAPES, TRIGGERS, Argument, Node, Program, settled

PRELUDE = '''
import asyncio
import functools
import tempfile
import time
import zlib

import numpy as np
{pandas}
from prefectish import (
    Flow, allow_failure, apply_map, context, flatten, flow, mapped, product, reduce, task, triggers, unmapped,
)
from prefectish.caching import all_inputs
from prefectish.engine import signals
from prefectish.engine.state import Failed, Mapped, Skipped, State, Success
from prefectish.results import LocalResult
from prefectish.tasks import task_input_hash

FOLDER = globals().get("FOLDER") or tempfile.mkdtemp()


def show(value):
    """Tell a value so that it can be compared."""
    kind = type(value).__name__
    if isinstance(value, signals.Signal):
        return kind
    if isinstance(value, BaseException):
        return f"{{kind}}({{str(value).replace(FOLDER, '...')!r}})"
    if isinstance(value, State):
        return f"{{kind}}: {{show(value.result)}}"
    if isinstance(value, dict):
        return f"{{kind}}({{', '.join(show(k) + ': ' + show(v) for k, v in value.items())}})"
    if isinstance(value, set):
        return f"{{kind}}({{sorted(map(show, value))}})"
    if isinstance(value, list | tuple | np.ndarray):
        return f"{{kind}}({{', '.join(map(show, value))}})"
    if kind in ("Series", "DataFrame"):
        return f"{{kind}}({{value.to_dict()}})"
    return repr(value)


def attempt():
    return context.get("task_run_count", 1)


def note(word, name, seed):
    with open(f"{{FOLDER}}/log", "a") as log:
        log.write(f"{{word}} {{name}} {{seed}} {{attempt()}} {{time.monotonic_ns()}}\\n")


def begin(name, *arguments):
    """Note that a body begins, and return a number that is made of its arguments."""
    seed = zlib.crc32("; ".join(map(show, arguments)).encode()) % 1_000_003
    note("begin", name, seed)
    return seed


def decorated(function):
    @functools.wraps(function)
    def inner(first, *others, **more):
        return function(first, *others, **more)

    return inner
'''

WITH_FLOW = '''
with Flow("twins"{store}) as program:
{calls}


def run(executor):
    """Run the flow; return its state, and those of its tasks."""
    state = program.run(executor=executor, history=False, check_inputs={checks})
    return state, {{name: state.result[task] for name, task in dict({results}).items()}}
'''

FUNCTION = '''
FOUND = {{}}


@flow(name="twins"{store})
def program():
{calls}
    for name, future in dict({results}).items():
        if not isinstance(future, State):
            future.wait()
        FOUND[name] = future if isinstance(future, State) else future.state


def run(executor):
    """Run the flow; return its state, and those of its tasks."""
    FOUND.clear()
    state = program.run(executor=executor, history=False, check_inputs={checks})
    if not FOUND:
        raise state.result
    return state, dict(FOUND)
'''

MAIN = """
if __name__ == "__main__":
    from prefectish.executors import LocalExecutor

    for found in run(LocalExecutor())[1].items():
        print(*found, *(found[1].map_states if isinstance(found[1], Mapped) else ()), sep="\\n    ")
"""


def prelude(program: Program) -> str:
    """Return what a program stands on."""
    return PRELUDE.format(pandas="import pandas as pd\n" if "pd." in tasks(program) + _calls(program, True) else "")


def source(program: Program, functional: bool) -> str:
    """Return a program in one of the spellings."""
    kept = any(node.place for node in program)
    store = ', result=LocalResult(f"{FOLDER}/results")' if kept else ""
    results = ", ".join(f"r{n}=r{n}" for n in range(len(program)))
    form = FUNCTION if functional else WITH_FLOW
    checks = any(node.mutates for node in program)
    body = form.format(store=store, calls=_calls(program, functional), results=results, checks=checks)
    return prelude(program) + tasks(program) + body + MAIN


# ---------------------------------------------------------------------- tasks


def tasks(program: Program, decorate: bool = True) -> str:
    """Return the tasks of a program, or the functions that they are made of."""
    return "".join(f"\n\n{_task(n, node, decorate)}\n" for n, node in enumerate(program) if node.of is None)


def _task(number: int, node: Node, decorate: bool) -> str:
    name = f"n{number}"
    head = {"self": f"def {name}(self=None, b=None, /):", "": f"def {name}(a=None, b=None):"}
    head["wraps"] = f"def {name}(a, b=None):"
    read = "self, b" if node.style == "self" else "a, b"
    define = head.get(node.style, head[""])
    lines = [f"async {define}" if node.style == "async" else define, f'    seed = begin("{name}", {read})']
    if node.busy:
        # A failure is known elsewhere some milliseconds later.
        lines += [f"    time.sleep({0.1 if node.stop else 0.004})", f'    note("end", "{name}", seed)']
    trouble = [f"    {line}" for line in _trouble(name, node)]
    if node.style == "async":
        lines.append("    await asyncio.sleep(0.001)")
    if node.mutates:
        lines += [f"    if seed % {node.rarity} == 0:", "        a.append(0)"]
    if node.style == "generator":
        first = "    yield seed"
        lines += [*([first, *trouble] if node.late else [*trouble, first]), "    yield seed + 1"]
    elif node.kind == "group":
        lines += [*trouble, "    return seed % 2"]
    else:
        lines += trouble
        lines.append(f"    return {SHAPES[node.shape]}")
    if node.style == "wraps" and decorate:
        lines.insert(0, "@decorated")
    if decorate:
        lines.insert(0, f"@task({', '.join(options(node))})" if options(node) else "@task")
    return "\n".join(lines)


def _trouble(name: str, node: Node) -> list[str]:
    if not node.trouble:
        return []
    if node.trouble == "overrun" and node.shares:  # one that blocks holds up those that have not begun
        return ["await asyncio.sleep(3)"]
    if node.trouble == "overrun":
        return ["until = time.monotonic() + 3", "while time.monotonic() < until:", "    time.sleep(0.001)"]
    when = f"if seed % {node.rarity} == 0"
    if node.trouble in ("unsteady", "retry"):
        when += " and attempt() == 1"
    text = f'f"{name} {{seed}}"'
    does = {
        "fail": f"raise ValueError({text})",
        "unsteady": f"raise OSError({text})",
        "skip": f"raise signals.SKIP({text})",
        "retry": f"raise signals.RETRY({text})",
        "signal": f"raise signals.FAIL({text})",
        "early": f"raise signals.SUCCESS({text}, result=[seed, seed])",
        "return failed": f"return Failed({text})",
        "return skipped": f"return Skipped({text})",
        "return success": f"return Success({text}, result=seed)",
    }
    return [f"{when}:", f"    {does[node.trouble]}"]


def options(node: Node) -> list[str]:
    """Return the options of a task, as source."""
    texts = {
        f"trigger={TRIGGERS[node.trigger]}": node.trigger != "all_successful",
        "skip_on_upstream_skip=False": not node.skips,
        f"retries={node.retries}, retry_delay_seconds=0": node.retries,
        "strict_map=False": not node.strict,
        f"batch_size={node.batch}": node.batch,
        "async_concurrency=2": node.shares,
        f"max_concurrency={node.limit}": node.limit,
        "tags=['db']": node.tagged,
        f"target={node.template!r}": node.place == "target",
        f'result=LocalResult(f"{{FOLDER}}/results", location={node.template!r})': node.place == "location",
        f"item_key={node.item_key!r}": node.item_key,
        "cache_key_fn=task_input_hash": node.cache == "key",
        "cache_for=3600": node.cache.startswith("for"),
        "cache_validator=all_inputs": node.cache == "for inputs",
        "on_child_failure='stop'": node.stop == "stop",
        "max_failures=2": node.stop == "failures",
        "timeout=0.3": node.trouble == "overrun",
        "nout=2": node.nout,
    }
    return [text for text, given in texts.items() if given]


# ---------------------------------------------------------------------- calls


def _calls(program: Program, functional: bool) -> str:
    lines = [line for n in range(len(program)) for line in _call(program, n, functional)]
    return "\n".join(f"    {line}" for line in lines)


def _call(program: Program, number: int, functional: bool) -> list[str]:
    node, task = settled(program, number), f"n{number if program[number].of is None else program[number].of}"
    names = ["self" if node.style == "self" else "a", "b"]
    given = [_beside_mapped(a) if node.called else read(a) for a in node.arguments]
    if node.keywords:
        given = [f"{name}={text}" for name, text in zip(names, given, strict=False)]
    if node.waits:
        waited = [_waited(node, a, functional) for a in node.waits]
        given.append(f"{'wait_for' if functional else 'upstream_tasks'}=[{', '.join(waited)}]")
    if node.allows:
        given.append("allow_failure=True")
    if (node.mapped and not node.called) or node.kind:
        return [f"r{number} = {_over_items(node, task, names, given)}"]
    if not functional:
        lines = [f"r{number} = {task}({', '.join(given)})"]
        return [*lines, f"r{number}_0, r{number}_1 = r{number}"] if node.nout else lines
    if not node.nout and not node.direct:
        return [f"r{number} = {task}.submit({', '.join(given)})"]
    lines = [f"r{number} = {task}({', '.join([*given, 'return_state=True'])})"]
    return [*lines, f"r{number}_0, r{number}_1 = r{number}.result[:2]"] if node.nout else lines


def _over_items(node: Node, task: str, names: list[str], given: list[str]) -> str:
    """Return a map, or what is made of one."""
    if node.kind == "reduce":
        return f"reduce({task}, {given[0]}, fan_in={node.fan_in})"
    if node.kind == "group":
        return f"{given[0]}.group_by({task})"
    listed = ", ".join(given)
    if node.applied:
        taken = ", ".join(names[: len(given)])
        return f"apply_map(lambda {taken}: {task}({taken}), {listed})"
    return f"{task}.map(*product({listed}))" if node.crossed else f"{task}.map({listed})"


def read(argument: Argument) -> str:
    """Return an argument as source."""
    value = argument.constant if argument.source is None else f"r{argument.source}"
    if argument.part is not None:
        value += f"_{argument.part}"
    if argument.child is not None:
        value += f"[{argument.child}]"
    forms = {
        "flatten": "flatten({})",
        "flat": "flatten({})",
        "twice": "flatten(flatten({}))",
        "allow": "allow_failure({})",
        "allow item": "allow_failure({})",
        "collect": "[{}, 7]",
        "dict": "{{'x': [{}]}}",
        "row": "[{}, 7]",
        "unmapped": "unmapped({})",
        "unmapped flat": "unmapped(flatten({}))",
        "unmapped allow": "unmapped(allow_failure({}))",
    }
    return forms.get(argument.mode, "{}").format(value)


def _beside_mapped(argument: Argument) -> str:
    """Return an argument of a call that maps over some of them."""
    if argument.mode.startswith("unmapped"):
        return read(argument).removeprefix("unmapped(")[:-1]
    return f"mapped({read(argument)})"


def _waited(node: Node, argument: Argument, functional: bool) -> str:
    """Return what is waited for; by default a graph maps over it, and a flow function does not."""
    name = f"r{argument.source}"
    whole = f"allow_failure({name})" if argument.mode == "allow" else name
    if not node.mapped or (node.called and argument.mode != "item"):
        return whole
    if argument.mode == "children" and functional:
        return f"*{name}"
    if argument.mode == "item":
        return f"mapped({name})" if functional or node.called else name
    return whole if functional else f"unmapped({whole})"
