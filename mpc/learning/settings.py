"""How the agent acts and learns: one set for every task."""

from dataclasses import dataclass
from typing import Any

import planners
from mpc.errors import LearningError
from planners.errors import require_positive
from worldmodels.spec import DiscreteAction, Spec


@dataclass(frozen=True)
class LearnerSettings:
    """One set for every task. Static under `jit`.

    Attributes:
      latent, hidden: sizes of the world model.
      critic_hidden, policy_hidden: widths of critic and policy.
      batch: windows an update.
      length: decisions in a window, predicted open loop.
      learning_rate: of Adam, for all.
      decay: weight of each further step of a window relative to the one before (ρ).
      prediction, variance, covariance, cost, critic, continuation: weights of the model's losses.
      reconstruction: weight of decoding observations from the predicted latents, the generative alternative; 0 does without.
      target_rate: share of the critic that its slow copy takes over at each update (τ).
      entropy: weight of the policy's entropy, where costs to go are in units of their spread.
      imagined: steps of the model that the policy's gradient runs through before the critic speaks; 0 asks the critic at once.
      imitation: weight of the squared distance to what planning did of late, in the same units.
      newest: the share of memory that counts as of late.
    """

    latent: int = 96
    hidden: int = 192
    critic_hidden: int = 192
    policy_hidden: int = 128
    batch: int = 128
    length: int = 3
    learning_rate: float = 5e-4
    decay: float = 0.7
    prediction: float = 2.0
    variance: float = 1.0
    covariance: float = 0.002
    reconstruction: float = 0.0
    cost: float = 0.5
    critic: float = 0.1
    continuation: float = 0.1
    target_rate: float = 0.02
    entropy: float = 1e-3
    imagined: int = 3
    imitation: float = 0.1
    newest: float = 0.2

    def __post_init__(self):
        require_positive(
            latent=self.latent,
            hidden=self.hidden,
            batch=self.batch,
            length=self.length,
        )


@dataclass(frozen=True)
class RunSettings:
    """The loop around the learner; one set for every task.

    Attributes:
      seed_frames: acted at random before the first update, half of it uniform, half pink noise; at least two episodes.
      episode_frames: after which an episode is cut while learning, so that the data show many starts, and goals where they are
        drawn. As many frames as in those are acted in whole episodes, which show what comes later.
      updates: per decision.
      horizon, samples, iterations, proposals: of the planner that acts.
      spread: of its first samples, in halves of the actions' range; a wide search finds what the critic does not know.
      unsurprised: share of the updates made after a round that was predicted as well as all that is remembered; all of them are made
        from twice that error on. 1 learns always.
      curiosity: deviation of the costs, of which novelty makes up what is lacking; 0 does without.
    """

    seed_frames: int = 4_000
    episode_frames: int = 250
    updates: float = 1.0
    horizon: int = 3
    samples: int = 128
    iterations: int = 4
    proposals: int = 16
    spread: float = 0.2
    unsurprised: float = 1.0
    curiosity: float = 0.1
    learner: LearnerSettings = LearnerSettings()

    def __post_init__(self):
        if not 0 <= self.unsurprised <= 1:
            raise LearningError(f"unsurprised={self.unsurprised}: expected a share of the updates, between 0 and 1.")
        require_positive(episode_frames=self.episode_frames)

    def planner(self, spec: Spec) -> planners.Planner:
        """The planner that fits the task's actions."""
        size: dict[str, Any] = {"horizon": self.horizon, "samples": self.samples, "iterations": self.iterations}
        elites = max(2, self.samples // 8)
        if isinstance(spec.action, DiscreteAction):
            return planners.CategoricalCEM(**size, elites=elites, proposals=self.proposals)
        return planners.CEM(**size, elites=elites, spread=self.spread, proposals=self.proposals)
