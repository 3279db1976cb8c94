"""Switches one protection off in a process: replaces what :mod:`protections` names, as its module is imported.

``sitecustomize`` of a folder that the runner puts on PYTHONPATH calls :func:`begin`, so that every Python process of a
test (workers, schedulers, clients) goes without the protection, and the test's own process too. The code itself has no
switches.
"""

from __future__ import annotations

import importlib.abc
import os
import sys

#: Variable that names the row of the table; conftest.py takes away those that begin with PREFECTISH_.
ROW = "PROTECTION_OFF"


def begin():
    """Have the protections of the row that the environment names switched off in this process."""
    import protections

    row = protections.OFF[int(os.environ[ROW])]
    wanted = {}
    for place, instead in {**row.off, "real:time_limit": _shorter(row.limit)}.items():
        module, _, path = place.partition(":")
        wanted.setdefault(module, []).append((path, instead))
    sys.meta_path.insert(0, _Finder(wanted))


def replace(module, path, instead):
    """Replace an attribute of a module, or of a class in it, by what is made of it."""
    *owners, name = path.split(".")
    owner = module
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, instead(getattr(owner, name)))


def _shorter(limit):
    """Let a test's own limit cut it short: it need not wait as long as on a busy machine with everything in place."""
    return lambda time_limit: lambda seconds: time_limit(min(seconds, limit))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, wanted):
        self.wanted = wanted

    def find_spec(self, name, path=None, target=None):
        if name not in self.wanted:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None:
            spec.loader = _Loader(spec.loader, self.wanted[name])
        return spec


class _Loader(importlib.abc.Loader):
    """Loads a module as its own loader does, and replaces what is to be replaced before anybody else sees it."""

    def __init__(self, loader, wanted):
        self.loader = loader
        self.wanted = wanted

    def __getattr__(self, name):  # what readers of source lines ask
        return getattr(self.loader, name)

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        for path, instead in self.wanted:
            replace(module, path, instead)
