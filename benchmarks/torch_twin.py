"""A PyTorch twin of training: the same network, windows, rollout, objective and optimiser. Can be imported only where torch is."""

from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]

from benchmarks.torch_network import torch_network
from worldmodels import JEPA, TrainingSettings
from worldmodels.data.windows import Buffer

PARTS = ("encoder", "predictor", "expander", "readout_head", "cost_head")


class Twin(torch.nn.Module):
    """A JEPA of vectors, without memory or noise, that takes over the weights of ours."""

    def __init__(self, model: JEPA):
        super().__init__()
        for name in PARTS:
            self.add_module(name, torch_network(getattr(model, name)))
        for name in ("normaliser", "cost_normaliser"):
            for part in ("mean", "scale"):
                self.register_buffer(f"{name}_{part}", torch.tensor(np.asarray(getattr(getattr(model, name), part)[...])))

    def rollout(self, latent, actions):
        """Latents [B, K, D] predicted open loop from [B, D] along actions [B, K, A]."""
        path = []
        for action in actions.unbind(1):
            latent = latent + self.predictor(torch.cat([latent, action], -1))
            path.append(latent)
        return torch.stack(path, 1)

    def terms(self, observations, actions, costs):
        """VICReg's four and those of the heads, unweighted, as `worldmodels.losses.losses` has them; no cost gradient reaches latents."""
        seen = (observations - self.normaliser_mean) / self.normaliser_scale
        latents = self.encoder(seen)
        predicted, targets = self.rollout(latents[:, 0], actions), latents[:, 1:]
        expanded = self.expander(targets)
        flat, flat_targets = expanded.flatten(0, 1), targets.flatten(0, 1)
        return {
            "prediction": (predicted - targets).square().mean(),
            "invariance": (self.expander(predicted) - expanded).square().mean(),
            "variance": (variance(flat_targets) + variance(flat)) / 2,
            "covariance": covariance(flat),
            **self.head_terms(seen, latents.detach(), predicted.detach(), actions, costs),
        }

    def head_terms(self, seen, latents, predicted, actions, costs):
        """Readout and cost, from encoded and from predicted latents."""
        read = self.readout_head(torch.cat([latents, predicted], 1))
        before = torch.cat([latents[:, :-1], latents[:, :1], predicted[:, :-1]], 1)
        cost = self.cost_head(torch.cat([before, torch.cat([actions, actions], 1)], -1))
        paid = (torch.cat([costs, costs], 1)[..., None] - self.cost_normaliser_mean) / self.cost_normaliser_scale
        return {
            "readout": (read - torch.cat([seen, seen[:, 1:]], 1)).square().mean(),
            "cost": (cost - paid).square().mean(),
        }


def variance(embedding):
    """Mean hinge on the standard deviations of [N, D]."""
    return torch.relu(1 - (embedding.var(0, correction=0) + 1e-4).sqrt()).mean()


def covariance(embedding):
    """Sum of squared off-diagonal covariances of [N, D] over D."""
    count, size = embedding.shape
    centred = embedding - embedding.mean(0)
    matrix = centred.T @ centred / (count - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / size


class Training:
    """Updates of a twin on windows of `buffer`; called with how many, it returns the last loss."""

    def __init__(self, model: JEPA, buffer: Buffer, settings: TrainingSettings):
        self.twin, self.settings, self.updates = Twin(model), settings, 0
        self.weights = {**settings.objective.weights, "readout": 1.0, "cost": 1.0}
        named = ("observations", "actions", "costs", "starts")
        self.data = {name: torch.tensor(np.asarray(getattr(buffer, name))) for name in named}
        self.count = int(buffer.count)
        rate, decay = settings.learning_rate, settings.weight_decay
        self.optimizer = torch.optim.AdamW(self.twin.parameters(), lr=rate, weight_decay=decay, fused=True)

    def window(self):
        """Observations, actions and costs of one batch."""
        starts = self.data["starts"][torch.randint(self.count, (self.settings.batch,))].long()
        rows = starts[:, None] + torch.arange(self.settings.length + 1)
        return self.data["observations"][rows], self.data["actions"][rows[:, :-1]], self.data["costs"][rows[:, :-1]]

    def loss(self, observations, actions, costs) -> Any:
        """The weighted sum of the terms."""
        terms = self.twin.terms(observations, actions, costs)
        return sum(self.weights[name] * value for name, value in terms.items())

    def __call__(self, updates: int) -> float:
        loss = torch.zeros(())
        for scale in np.linspace(1.0, self.settings.final_rate, updates).tolist():
            warm = min(1.0, self.updates / self.settings.warmup)
            self.optimizer.param_groups[0]["lr"] = scale * warm * self.settings.learning_rate
            self.optimizer.zero_grad()
            loss = self.loss(*self.window())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.twin.parameters(), 10.0)
            self.optimizer.step()
            self.updates += 1
        return float(loss.detach())
