"""Mistakes in the definition of a flow are shown where the user made them, without the frames of the package below.

What the package refuses with a ``raise`` of its own ends in the line of the user that it is about; an interrupt of a
run in the line that waited for it. An error that it did not raise on purpose keeps its frames, and so does every one
under ``PREFECTISH_FULL_TRACEBACKS=1``. Hooks of the user's own are left alone.
"""

from __future__ import annotations

import itertools
import os
import sys
from types import TracebackType
from typing import Any

from prefectish.errors import PrefectishError

#: The errors by which the package refuses something.
REFUSALS = (PrefectishError, TypeError, ValueError, AttributeError, ImportError, RuntimeError, LookupError)
#: What is shown without its frames.
SHOWN = (*REFUSALS, KeyboardInterrupt)


def install() -> None:
    """Show uncaught errors so, in a program and in a notebook, if nothing else shows them in its own way."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None and not shell.custom_exceptions:
        shell.set_custom_exc(SHOWN, _show_in_notebook)


def _show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    sys.__excepthook__(kind, error.with_traceback(without_ours(error, traceback)), traceback)


def _show_in_notebook(
    shell: Any, kind: type[BaseException], error: BaseException, traceback: Any, tb_offset: int | None = None
) -> None:
    shown = without_ours(error, traceback)
    shell.showtraceback((kind, error.with_traceback(shown), shown), tb_offset=tb_offset)


def without_ours(error: BaseException, traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback that ends in the user's code, if the package raised the error there on purpose."""
    if not isinstance(error, SHOWN) or os.environ.get("PREFECTISH_FULL_TRACEBACKS", "0") not in ("", "0"):
        return traceback
    links = []
    link = traceback
    while link is not None:
        links.append(link)
        link = link.tb_next
    if not links or not _is_ours(links[-1]) or not _is_raise(links[-1]):
        return traceback
    if isinstance(error, KeyboardInterrupt):  # it comes anywhere below the run: in a lock, in a write
        links = list(itertools.takewhile(lambda link: not _is_ours(link), links))
    while links and _is_ours(links[-1]):
        links.pop()
    shown = None
    for link in reversed(links):
        shown = TracebackType(shown, link.tb_frame, link.tb_lasti, link.tb_lineno)
    return shown or traceback


def _is_ours(link: TracebackType) -> bool:
    name = link.tb_frame.f_globals.get("__name__")
    if not isinstance(name, str) or name.startswith("prefectish.examples"):
        return False
    return name.partition(".")[0] == "prefectish"


def _is_raise(link: TracebackType) -> bool:
    import opcode

    return opcode.opname[link.tb_frame.f_code.co_code[link.tb_lasti]] in ("RAISE_VARARGS", "RERAISE")
