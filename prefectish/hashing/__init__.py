"""A hash of any value that is the same in every process, or an error that names the part that has none."""

from prefectish.errors import Unhashable
from prefectish.hashing.encoder import stable_hash

__all__ = ["Unhashable", "stable_hash"]
