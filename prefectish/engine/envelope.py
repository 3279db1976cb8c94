"""The former name of :mod:`prefectish.engine.jobs.envelope`: results stored by earlier releases name it."""

from prefectish.engine.jobs.envelope import Encoded, EncodedError

__all__ = ["Encoded", "EncodedError"]
