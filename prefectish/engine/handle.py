"""The former name of :mod:`prefectish.engine.driver.handle`: programs written for earlier releases name it."""

from prefectish.engine.driver.handle import RunHandle

__all__ = ["RunHandle"]
