"""Rewrite a file that was written for Prefect: imports and known calls get the names of this package.

What cannot be rewritten stays as it is, and is named with its line and a reason. It needs libcst, the extra `move`.
"""

from prefectish.moving.rewrite import Left, Moved, move

__all__ = ["Left", "Moved", "move"]
