"""Run a script that was written for Prefect 1: ``python -m prefectish.compat SCRIPT.py ARGS``."""

from __future__ import annotations

import os
import runpy
import sys

from prefectish.compat import install

USAGE = "usage: python -m prefectish.compat SCRIPT.py ARGS"


def main() -> None:
    """Run the script as `python SCRIPT.py ARGS` would, with `prefect` installed."""
    if len(sys.argv) < 2:
        print(USAGE, file=sys.stderr)
        raise SystemExit(2)
    if sys.argv[1] in ("-h", "--help"):
        print(USAGE)
        return
    script = sys.argv[1]
    if not os.path.exists(script):
        print(f"prefectish.compat: no such file: {script}", file=sys.stderr)
        raise SystemExit(2)
    install()
    sys.argv[:] = sys.argv[1:]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
