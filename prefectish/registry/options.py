"""What a deployment does about overlaps, missed times, lost drivers and long runs."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from prefectish.tasks.options import seconds

#: What becomes of a scheduled run while another one of the same deployment is open.
OVERLAPS = ("skip", "queue", "allow", "cancel")
ON_LOST = ("resume", "fail")


class DeploymentOptions(NamedTuple):
    """How runs of a deployment are begun, and begun again."""

    #: While another run of it is open, a scheduled one is left out, waits for its end, begins beside it, or takes its
    #: place.
    overlap: Literal["skip", "queue", "allow", "cancel"] = "skip"
    #: Whether every time that was missed is made up for; else the last of them.
    catch_up: bool = False
    #: What becomes of a run whose driver died: another driver continues it from its record, or it fails.
    on_lost: Literal["resume", "fail"] = "resume"
    max_resumes: int = 5
    #: Longest time of a run, in seconds.
    timeout: float | None = None

    @classmethod
    def checked(cls, **given: Any) -> DeploymentOptions:
        """Return options whose values were checked: TypeError, ValueError."""
        chosen = {name: value for name, value in given.items() if value is not None}
        for name, words in (("overlap", OVERLAPS), ("on_lost", ON_LOST)):
            if chosen.get(name, words[0]) not in words:
                raise ValueError(f"{name} must be one of {', '.join(map(repr, words))}, got {chosen[name]!r}")
        if not isinstance(chosen.get("catch_up", False), bool):
            raise TypeError(f"catch_up must be True or False, got {chosen['catch_up']!r}")
        resumes = chosen.get("max_resumes", 0)
        if isinstance(resumes, bool) or not isinstance(resumes, int) or resumes < 0:
            raise ValueError(f"max_resumes must be an int >= 0, got {resumes!r}")
        if isinstance(chosen.get("timeout"), int | float | timedelta):
            chosen["timeout"] = seconds("timeout", chosen["timeout"])
        elif "timeout" in chosen:
            raise TypeError(f"timeout must be seconds or a timedelta, got {chosen['timeout']!r}")
        return cls(**chosen)

    def to_json(self) -> str:
        """Return the options as JSON."""
        return json.dumps(self._asdict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> DeploymentOptions:
        """Return the options that were written down."""
        return cls(**json.loads(text))
