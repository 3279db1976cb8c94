"""Hashes of numpy arrays and pandas frames: by dtype, shape and values, independent of the memory layout.

Neither library is imported here; a value's own class is all that is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefectish.hashing.digests import digest

if TYPE_CHECKING:
    from prefectish.hashing.encoder import Tree


def array(tree: Tree, value: Any) -> bytes:
    """Hash an array."""
    dtype = value.dtype
    if dtype.names:  # between the fields there may be padding, of any content
        fields = [(f"[{name!r}]", value[name]) for name in dtype.names]
        return tree.join("fields", [("", ascii(dtype.names)), ("", value.shape), *fields])
    head = ascii((dtype.name, dtype.str.lstrip("<>=|"), value.shape)).encode()
    return digest("array", head + b"\0" + _content(tree, value, dtype))


def _content(tree: Tree, value: Any, dtype: Any) -> bytes:
    if dtype.hasobject or dtype.kind == "T":
        return tree.sequence("list", value.ravel().tolist())
    if dtype.kind in "fc" and dtype.itemsize > (16 if dtype.kind == "c" else 8):
        return tree.sequence("list", [str(item) for item in value.ravel()])  # 80 bits, and padding of any content
    little = value.astype(dtype.newbyteorder("<"), copy=False)
    if dtype.kind in "fc":
        missing = little != little
        if missing.any():  # there are many NaNs, and all of them are alike
            little = little.copy()
            little[missing] = float("nan")
    content: bytes = little.tobytes()
    return content


def scalar(tree: Tree, value: Any) -> bytes:
    """Hash a numpy scalar."""
    import numpy

    return digest("scalar", array(tree, numpy.asarray(value)))


def frame(tree: Tree, value: Any) -> bytes:
    """Hash a frame."""
    columns = [(f"[{name!r}]", _Column(value.iloc[:, i])) for i, name in enumerate(value.columns)]
    return digest(
        "frame",
        index(tree, value.columns)
        + index(tree, value.index)
        + b"".join(_located(tree, path, column.values) for path, column in columns)
        + _notes(tree, value),
    )


def _notes(tree: Tree, value: Any) -> bytes:
    """Hash what the user noted of a frame or a series, which pandas does not compare."""
    return tree.part(".attrs", value.attrs) if tree.exact and getattr(value, "attrs", None) else b""


class _Column:
    __slots__ = ("values",)

    def __init__(self, series: Any) -> None:
        self.values = series.array


def _located(tree: Tree, path: str, values: Any) -> bytes:
    from prefectish.errors import Unhashable

    try:
        return _values(tree, values)
    except Unhashable as error:
        raise Unhashable(error.reason, path + error.path) from None


def series(tree: Tree, value: Any) -> bytes:
    """Hash a series."""
    name = tree.part(".name", value.name)
    return digest("series", name + index(tree, value.index) + _values(tree, value.array) + _notes(tree, value))


def index(tree: Tree, value: Any) -> bytes:
    """Hash an index; a RangeIndex by its numbers."""
    names = tree.part(".names", list(value.names))
    if value.nlevels > 1:
        levels = [_values(tree, value.get_level_values(i).array) for i in range(value.nlevels)]
    else:
        levels = [_values(tree, value.array)]
    return digest("index", names + b"".join(levels))


def _values(tree: Tree, values: Any) -> bytes:
    """Hash an array of pandas."""
    kind = str(values.dtype).encode() + b"\0"
    if hasattr(values, "categories"):
        ordered = b"ordered" if values.ordered else b""
        return digest("categories", ordered + index(tree, values.categories) + array(tree, values.codes))
    stamps = getattr(values, "asi8", None)
    if stamps is not None:  # dates, durations and periods
        return digest("stamps", kind + array(tree, stamps))
    inner = values.to_numpy() if hasattr(values, "to_numpy") else None
    if inner is not None and not inner.dtype.hasobject and type(values).__name__ == "NumpyExtensionArray":
        return digest("values", kind + array(tree, inner))
    return digest("values", kind + tree.sequence("list", list(values)))
