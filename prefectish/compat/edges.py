"""`prefect.utilities.edges`: annotations that say what they are."""

from __future__ import annotations

from typing import Any

from prefectish import edges


class EdgeAnnotation(edges.Annotation):
    """Base class of annotations."""

    __slots__ = ()

    @property
    def annotations(self) -> dict[str, bool]:
        """The properties of the edge that it and those around its value set."""
        inner = self.value.annotations if isinstance(self.value, EdgeAnnotation) else {}
        own = {"mapped": self.mapped} if self.mapped is not None else {}
        return {**own, **({"flattened": True} if self.flattened else {}), **inner}


class unmapped(EdgeAnnotation, edges.unmapped[Any]):
    """See :class:`prefectish.unmapped`."""

    __slots__ = ()


class mapped(EdgeAnnotation, edges.mapped):
    """See :class:`prefectish.mapped`."""

    __slots__ = ()


class flatten(EdgeAnnotation, edges.flatten):
    """See :class:`prefectish.flatten`."""

    __slots__ = ()


def serialize(self: edges.Edge) -> dict[str, Any]:
    """Return the edge as plain values."""
    ends = {name: {"slug": getattr(getattr(self, name), "slug", None)} for name in ("upstream_task", "downstream_task")}
    return {**ends, "key": self.key, "mapped": self.mapped, "flattened": self.flattened}


def extend_edges() -> None:
    """Give edges the method that they had: the engine makes edges of its own class."""
    edges.Edge.serialize = serialize  # type: ignore[attr-defined]
