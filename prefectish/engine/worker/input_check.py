"""``check_inputs=True``: a body that changes what it is given is found, by hashes of its arguments before and after.

What such a change does depends on the executor: in one process others see it, elsewhere they may or may not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from prefectish.engine.capture import Value, capture
from prefectish.engine.state import Failed
from prefectish.errors import PrefectishError
from prefectish.hashing.encoder import named_hash

if TYPE_CHECKING:
    from prefectish.engine.worker.attempt_context import AttemptContext

#: Key of the facts of a run: whether it checks inputs.
CHECK_INPUTS = "check_inputs"
#: The arguments of a body, and their hashes before it ran.
Before = tuple[Mapping[str, Any], dict[str, str]]


def hashes(inputs: Mapping[str, Any]) -> dict[str, str]:
    """Return the hash of each argument that has one."""
    found = {name: capture(named_hash, name, value, exact=True) for name, value in inputs.items()}
    return {name: outcome.value for name, outcome in found.items() if isinstance(outcome, Value)}


def changed(before: Before) -> list[str]:
    """Return the names of the arguments that are not what they were."""
    inputs, known = before
    now = hashes({name: inputs[name] for name in known})
    return [name for name, value in known.items() if now.get(name) != value]


def complaint(ctx: AttemptContext, names: list[str]) -> str:
    """Return what is wrong with a body that changed these arguments."""
    which = " and ".join(map(repr, names))
    word = "argument" if len(names) == 1 else "arguments"
    label = ctx.spec.label_of(ctx.index)
    return f"the body of {label} changed its {word} {which}, which other tasks may read; change a copy of it"


def failure(ctx: AttemptContext, names: list[str]) -> Failed:
    """Return the state of a body that changed these arguments."""
    text = complaint(ctx, names)
    return Failed(text, PrefectishError(text))
