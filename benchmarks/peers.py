"""The PyTorch planners that `bench speed` compares with: pytorch-mppi and stable-worldmodel's solvers, on the same weights.

They live in the extra `peers`, and stable-worldmodel, which would bring a training stack, beside it without its dependencies.
So this module can be imported only where torch is; `benchmarks.speed` looks first.
"""

import importlib
import importlib.util
import io
import sys
import types
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import partial
from types import SimpleNamespace
from typing import Any

import gymnasium
import jax
import numpy as np
import pytorch_mppi  # pyright: ignore[reportMissingImports]
import torch  # pyright: ignore[reportMissingImports]
from jaxtyping import Array, Float

from benchmarks.torch_network import torch_network
from benchmarks.workloads import EFFORT, Workload
from worldmodels.networks import MLP

SPREAD = 0.5  # standard deviation of their samples, as of ours
DEVICE = "cuda" if jax.default_backend() == "gpu" else "cpu"
torch.set_float32_matmul_precision("high")  # products by TensorFloat-32 where a GPU has it, as JAX does by default


def peers(workload: Workload, mlp: MLP, latent: Float[Array, " D"], steps: int, starts: int) -> dict[str, Callable[[], Any]]:
    """A decision of each peer, by method name; each returns the plan's actions.

    Samples, horizon, iterations and elites are the workload's, as for our planners. None gets proposals, which these packages
    do not have, so theirs is the lesser work there. Gradient takes `steps` Adam steps from one start and from `starts`.
    """
    model, start = Model(torch_network(mlp)).to(DEVICE), torch.tensor(np.asarray(latent), device=DEVICE)
    return {
        "pytorch-mppi": _pytorch_mppi(workload, model, start),
        **_stable_worldmodel(workload, model, start, steps, starts),
    }


class Model(torch.nn.Module):
    """The workload's dynamics and cost as stable-worldmodel asks for them (its `Costable` protocol)."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network.requires_grad_(False)

    def predict(self, state, action):
        """The next latents [..., D]."""
        return state + self.network(torch.cat([state, action], -1))

    def get_cost(self, information, candidates):
        """J [B, N] of candidates [B, N, H, A] from latents [B, N, D]."""
        state, total = information["latent"], 0.0
        for action in candidates.unbind(2):
            total = total + running_cost(state, action)
            state = self.predict(state, action)
        return total + state.square().mean(-1)


def running_cost(state, action):
    """The workload's, in torch."""
    return state.square().mean(-1) + EFFORT * action.square().mean(-1)


def _pytorch_mppi(workload: Workload, model: Model, start) -> Callable[[], Any]:
    bound = torch.ones(workload.actions, device=DEVICE)
    controller = pytorch_mppi.MPPI(
        model.predict,
        running_cost,
        workload.latent,
        SPREAD**2 * torch.eye(workload.actions, device=DEVICE),
        num_samples=workload.samples,
        horizon=workload.horizon,
        u_min=-bound,
        u_max=bound,
        device=DEVICE,
    )

    def decide():
        with torch.inference_mode():
            for iteration in range(workload.iterations):
                controller.command(start, shift_nominal_trajectory=iteration == 0)
            return controller.get_action_sequence().cpu().numpy()

    return decide


def _stable_worldmodel(workload: Workload, model: Model, start, steps: int, starts: int) -> dict[str, Callable[[], Any]]:
    shared = {"num_samples": workload.samples, "n_steps": workload.iterations, "topk": workload.elites}
    shared |= {"var_scale": SPREAD, "device": DEVICE}
    adam = {"n_steps": steps, "optimizer_cls": torch.optim.Adam, "optimizer_kwargs": {"lr": 0.1}}
    solvers = {
        "cem": _solver("cem").CEMSolver(model=model, **shared),
        "icem": _solver("icem").ICEMSolver(model=model, **shared),
        "mppi": _solver("mppi").MPPISolver(model=model, **shared),
    }
    if DEVICE == "cpu":  # on a GPU its starts lie on two devices, and it raises
        gradient = partial(_solver("gd").GradientSolver, model=model, **adam)
        solvers |= {"gradient": gradient(), f"gradient-{starts}": gradient(num_samples=starts, var_scale=SPREAD)}
    box = gymnasium.spaces.Box(-1, 1, (1, workload.actions), np.float32)
    settings = SimpleNamespace(horizon=workload.horizon, action_block=1)

    def decision(solver):
        solver.configure(action_space=box, n_envs=1, config=settings)

        def decide():
            with redirect_stdout(io.StringIO()):  # every solve prints its own time
                return solver.solve({"latent": start[None]})["actions"][0].cpu().numpy()

        return decide

    return {f"stable-worldmodel-{name}": decision(solver) for name, solver in solvers.items()}


def _solver(name: str) -> Any:
    """stable_worldmodel.solver.`name`, without the packages' `__init__`, which import environments and training."""
    for package in ("stable_worldmodel", "stable_worldmodel.solver"):
        if package not in sys.modules:
            found = importlib.util.find_spec(package)
            module = types.ModuleType(package)
            module.__path__ = list(found.submodule_search_locations or []) if found else []
            sys.modules[package] = module
    return importlib.import_module(f"stable_worldmodel.solver.{name}")
