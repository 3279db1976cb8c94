"""`prefect.exceptions`."""

from __future__ import annotations

from typing import Any

from prefectish.engine.signals import Signal, TimeoutSignal
from prefectish.engine.state import Failed
from prefectish.errors import PrefectishError

PrefectSignal = Signal
TaskTimeoutSignal = TimeoutSignal
TaskTimeoutError = TimeoutSignal
PrefectException = PrefectishError
PrefectError = PrefectishError


class NoStateError(TypeError, AttributeError):
    """Raised for a state handler that returns something else than a state."""


class ClientError(PrefectishError):
    """Raised for an error of a client."""


class AuthorizationError(ClientError):
    """Raised where access is refused."""


class ObjectNotFoundError(ClientError):
    """Raised where a flow or a run is not found."""


class VersionLockMismatchSignal(Signal):
    """Raised where a run changed meanwhile."""

    def __init__(self, message: Any = None) -> None:
        super().__init__(message, Failed(message))


class StorageError(PrefectishError):
    """Raised where a flow cannot be kept."""


class FlowStorageError(PrefectishError):
    """Raised where a flow cannot be loaded from where it is kept."""
