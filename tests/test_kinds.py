"""What a value is, asked without its own code."""

from __future__ import annotations

import weakref
from collections.abc import Mapping

import pytest

from prefectish.kinds import is_a


class Gone:
    pass


class Bound:
    @property
    def __class__(self):
        raise RuntimeError("outside of a request")


@pytest.mark.parametrize("make", [lambda: weakref.proxy(Gone()), Bound], ids=["dead", "bound"])
def test_u21_proxy_of_something_gone_is_asked_nothing(make):
    """U21, the rule."""
    value = make()
    with pytest.raises((ReferenceError, RuntimeError)):
        isinstance(value, int)
    assert not is_a(value, int)
    assert not is_a(value, (str, Mapping))


def test_subclasses_and_abstract_classes_count():
    assert is_a(True, int)
    assert is_a({}, (str, Mapping))
    assert is_a({}, Mapping)
