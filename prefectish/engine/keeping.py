"""The former name of :mod:`prefectish.engine.worker.storage`: results stored by earlier releases name it."""

from prefectish.engine.worker.stored_result import Stored

__all__ = ["Stored"]
