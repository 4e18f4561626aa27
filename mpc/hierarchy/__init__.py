"""Hierarchy: plans of plans, each level's states the aims of the level below (LeCun 2022, section 4.6)."""

from mpc.hierarchy.agent import HierarchicalAgent
from mpc.hierarchy.compilation import compile_levels
from mpc.hierarchy.planner import HierarchicalPlanner
from mpc.hierarchy.problem import HierarchicalProblem, Level, squared_distance
from mpc.hierarchy.storage import Hierarchy, load_hierarchy, save_hierarchy

__all__ = [
    "HierarchicalAgent",
    "HierarchicalPlanner",
    "HierarchicalProblem",
    "Hierarchy",
    "Level",
    "compile_levels",
    "load_hierarchy",
    "save_hierarchy",
    "squared_distance",
]
