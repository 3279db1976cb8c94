"""Control flow: branches, resources, pipelines of maps, products."""

from prefectish.control_flow.branches import case, ifelse, merge, switch
from prefectish.control_flow.products import product
from prefectish.control_flow.reductions import reduce
from prefectish.control_flow.resources import resource_manager
from prefectish.control_flow.submaps import apply_map

__all__ = ["apply_map", "case", "ifelse", "merge", "product", "reduce", "resource_manager", "switch"]
