"""Planners: every way of searching for actions, on one problem. Pure JAX; knows latents only as pytrees."""

from planners.actions import Box, Discrete
from planners.categorical_cem import CategoricalCEM
from planners.cem import CEM
from planners.errors import ActionSpaceError, PlannerError, ProblemShapeError, SettingError
from planners.gradient import Gradient
from planners.hybrid import CEMGradient
from planners.icem import ICEM
from planners.ilqr import ILQR
from planners.mppi import MPPI
from planners.parameterisation import PER_STEP, Knots, Parameterisation, PerStep
from planners.plan import Diagnostics, Incumbent, Plan, Status
from planners.planner import Planner, plan
from planners.predictive_sampling import PredictiveSampling
from planners.problem import MEAN, WORST, Cost, FunctionCost, Problem, Risk, Scores, cvar
from planners.pytree import pytree, static
from planners.random_shooting import RandomShooting
from planners.tree_search import TreeSearch

__all__ = [
    "CEM",
    "ICEM",
    "ILQR",
    "MEAN",
    "MPPI",
    "PER_STEP",
    "WORST",
    "ActionSpaceError",
    "Box",
    "CEMGradient",
    "CategoricalCEM",
    "Cost",
    "Diagnostics",
    "Discrete",
    "FunctionCost",
    "Gradient",
    "Incumbent",
    "Knots",
    "Parameterisation",
    "PerStep",
    "Plan",
    "Planner",
    "PlannerError",
    "PredictiveSampling",
    "Problem",
    "ProblemShapeError",
    "RandomShooting",
    "Risk",
    "Scores",
    "SettingError",
    "Status",
    "TreeSearch",
    "cvar",
    "plan",
    "pytree",
    "static",
]
