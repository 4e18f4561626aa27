"""Hierarchy: plans of plans, each level's states the aims of the level below (LeCun 2022, section 4.6)."""

from mpc.hierarchy.agent import HierarchicalAgent
from mpc.hierarchy.planner import HierarchicalPlanner
from mpc.hierarchy.problem import HierarchicalProblem, Level, squared_distance

__all__ = ["HierarchicalAgent", "HierarchicalPlanner", "HierarchicalProblem", "Level", "squared_distance"]
