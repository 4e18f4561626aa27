"""Planners: every way of searching for actions, on one problem. Pure JAX; knows latents only as pytrees."""

from planners.actions import Box, Discrete
from planners.cem import CEM
from planners.errors import ActionSpaceError, PlannerError, ProblemShapeError, SettingError
from planners.gradient import Gradient
from planners.icem import ICEM
from planners.plan import Diagnostics, Incumbent, Plan, Status
from planners.planner import Planner, plan
from planners.problem import MEAN, WORST, Cost, FunctionCost, Problem, Risk, Scores, cvar
from planners.pytree import pytree, static

__all__ = [
    "CEM",
    "ICEM",
    "MEAN",
    "WORST",
    "ActionSpaceError",
    "Box",
    "Cost",
    "Diagnostics",
    "Discrete",
    "FunctionCost",
    "Gradient",
    "Incumbent",
    "Plan",
    "Planner",
    "PlannerError",
    "Problem",
    "ProblemShapeError",
    "Risk",
    "Scores",
    "SettingError",
    "Status",
    "cvar",
    "plan",
    "pytree",
    "static",
]
