"""Result stores: where results are kept, in which format and under which names."""

from typing import TYPE_CHECKING

from prefectish.missing_names import lead_out
from prefectish.results.base import Result
from prefectish.results.compression import register_compression
from prefectish.results.serializers import JSONSerializer, PickleSerializer, Serializer, register_serializer
from prefectish.results.stores import FSResult, LocalResult
from prefectish.results.templates import Template, template

__all__ = [
    "FSResult",
    "JSONSerializer",
    "LocalResult",
    "PickleSerializer",
    "Result",
    "Serializer",
    "Template",
    "register_compression",
    "register_serializer",
    "template",
]

if not TYPE_CHECKING:
    __getattr__ = lead_out(__name__)
