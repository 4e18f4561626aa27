"""Model-predictive control: environments, costs, and the agents that plan or react."""

from mpc import tasks
from mpc.agent import Agent, AgentState, PlanningAgent
from mpc.collection import collect
from mpc.configurator import Configurator
from mpc.controller import (
    BatchController,
    ControlDecision,
    Controller,
    ControllerSettings,
    ControlStatus,
    FlightRecorder,
    Log,
    Patience,
    Replay,
    Rung,
    SimulatedLatency,
)
from mpc.costs import LearnedCost, TaskCost, cost, disagreement, goal
from mpc.critic import Critic
from mpc.decision import Decision
from mpc.description import Task
from mpc.distillation import DistillationSettings, distil
from mpc.environment import Environment, make, make_for
from mpc.errors import (
    CollectionError,
    ConfigurationError,
    ControllerError,
    CostError,
    EnvironmentFaultError,
    ExportError,
    GoalWarning,
    HierarchyError,
    LearningError,
    LogError,
    MPCError,
    RenderingError,
    UnknownEnvironmentError,
    UnsupportedEnvironmentError,
)
from mpc.evaluation import Evaluation, confidence_interval, evaluate
from mpc.export import Exported, export, iree_programs, load_export
from mpc.hierarchy import (
    HierarchicalAgent,
    HierarchicalPlanner,
    HierarchicalProblem,
    Hierarchy,
    Level,
    compile_levels,
    load_hierarchy,
    save_hierarchy,
    squared_distance,
)
from mpc.imagination import ImaginationSettings, imagine
from mpc.intrinsic import Combined, Residual, combine, effort, reach, residual, smoothness, within
from mpc.learning import LearnerSettings, RunSettings, learn
from mpc.mixed import MixedAgent
from mpc.policy import Policy, PolicyAgent
from mpc.random_agent import PinkAgent, RandomAgent
from mpc.remembering import RememberingAction
from mpc.rendering import record, rendering_backend, write_gif
from mpc.simulation import simulator
from mpc.storage import load_agent, load_critic, load_policy, save_critic, save_policy
from mpc.temporal_distance import DistanceSettings, Leaps, TemporalDistance, TimeToGoal, learn_distance

__all__ = [
    "Agent",
    "AgentState",
    "BatchController",
    "CollectionError",
    "Combined",
    "ConfigurationError",
    "Configurator",
    "ControlDecision",
    "ControlStatus",
    "Controller",
    "ControllerError",
    "ControllerSettings",
    "CostError",
    "Critic",
    "Decision",
    "DistanceSettings",
    "DistillationSettings",
    "Environment",
    "EnvironmentFaultError",
    "Evaluation",
    "ExportError",
    "Exported",
    "FlightRecorder",
    "GoalWarning",
    "HierarchicalAgent",
    "HierarchicalPlanner",
    "HierarchicalProblem",
    "Hierarchy",
    "HierarchyError",
    "ImaginationSettings",
    "Leaps",
    "LearnedCost",
    "LearnerSettings",
    "LearningError",
    "Level",
    "Log",
    "LogError",
    "MPCError",
    "MixedAgent",
    "Patience",
    "PinkAgent",
    "PlanningAgent",
    "Policy",
    "PolicyAgent",
    "RandomAgent",
    "RememberingAction",
    "RenderingError",
    "Replay",
    "Residual",
    "RunSettings",
    "Rung",
    "SimulatedLatency",
    "Task",
    "TaskCost",
    "TemporalDistance",
    "TimeToGoal",
    "UnknownEnvironmentError",
    "UnsupportedEnvironmentError",
    "collect",
    "combine",
    "compile_levels",
    "confidence_interval",
    "cost",
    "disagreement",
    "distil",
    "effort",
    "evaluate",
    "export",
    "goal",
    "imagine",
    "iree_programs",
    "learn",
    "learn_distance",
    "load_agent",
    "load_critic",
    "load_export",
    "load_hierarchy",
    "load_policy",
    "make",
    "make_for",
    "reach",
    "record",
    "rendering_backend",
    "residual",
    "save_critic",
    "save_hierarchy",
    "save_policy",
    "simulator",
    "smoothness",
    "squared_distance",
    "tasks",
    "within",
    "write_gif",
]
