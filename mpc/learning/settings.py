"""How the agent learns."""

from dataclasses import dataclass

from planners.errors import require_positive


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
