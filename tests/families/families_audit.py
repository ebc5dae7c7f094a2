"""Updates of a family as seen from outside: copies of the policy walk through the rollout step by step."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from scipy.special import rel_entr
from torch.distributions import Bernoulli, Normal, kl_divergence

from sb3_ppo_variants.training.update_loop import UpdateLoop


@dataclass(frozen=True)
class Audit:
    """One update, recomputed in float64: KL(old||new) and surrogate gain over the rollout, the tensors that changed."""

    kl: float
    gain: float
    changed: frozenset[str]
    logs: dict[str, Any]


class Auditing(UpdateLoop):
    """Audits each of its updates."""

    audits: list[Audit]

    def learn(self, *arguments: Any, **keywords: Any) -> Any:
        self.audits = []
        return super().learn(*arguments, **keywords)

    def train(self) -> None:
        old = copy_of_policy(self)
        super().train()
        self.audits.append(audit(self, old, copy_of_policy(self)))


def audited(cls: type[UpdateLoop]) -> type[Auditing]:
    return type(cls.__name__, (Auditing, cls), {})


def copy_of_policy(model: Any) -> Any:
    sde = {"use_sde": True} if model.use_sde else {}
    arguments = (model.observation_space, model.action_space, model.lr_schedule)
    policy = model.policy_class(*arguments, **sde, **model.policy_kwargs)
    policy.load_state_dict(model.policy.state_dict())
    policy.set_training_mode(False)
    return policy


@th.no_grad()
def audit(model: Any, old: Any, new: Any) -> Audit:
    before, after = (list(distributions(model, policy)) for policy in (old, new))
    kl = np.concatenate([kl_of(*pair) for pair in zip(before, after, strict=True)])
    taken = by_step(model, model.rollout_buffer.actions)
    log_ratio = np.concatenate([log_prob(q, a) - log_prob(p, a) for p, q, a in zip(before, after, taken, strict=True)])
    advantages = by_step(model, model.rollout_buffer.advantages).astype(np.float64).flatten()
    gain = np.expm1(log_ratio) * (advantages - advantages.mean()) / advantages.std()
    states = old.state_dict(), new.state_dict()
    changed = frozenset(name for name, tensor in states[0].items() if not th.equal(tensor, states[1][name]))
    return Audit(float(kl.mean()), float(gain.mean()), changed, dict(model.logger.name_to_value))


def by_step(model: Any, stored: np.ndarray) -> np.ndarray:
    """Return what the update has flattened as (steps, environments, ...)."""
    return stored.reshape(model.n_envs, model.n_steps, *stored.shape[1:]).swapaxes(0, 1)


def distributions(model: Any, policy: Any) -> Any:
    """Yield the action distribution at each step of the rollout, for all environments at once."""
    buffer = model.rollout_buffer
    observations = by_step(model, buffer.observations)
    masks = by_step(model, buffer.action_masks) if hasattr(buffer, "action_masks") else [None] * model.n_steps
    if not hasattr(buffer, "hidden_states_pi"):
        for step in range(model.n_steps):
            yield inner(policy.get_distribution(th.as_tensor(observations[step]), masks[step]))
        return
    first = (by_step(model, states)[0] for states in (buffer.hidden_states_pi, buffer.cell_states_pi))
    memory = tuple(th.as_tensor(state).swapaxes(0, 1).contiguous() for state in first)
    starts = by_step(model, buffer.episode_starts)
    for step in range(model.n_steps):
        masked = {} if masks[step] is None else {"action_masks": masks[step]}
        distribution, memory = policy.get_distribution(
            th.as_tensor(observations[step]), memory, th.as_tensor(starts[step]).flatten(), **masked
        )
        yield inner(distribution)


def inner(distribution: Any) -> list[Any]:
    """Return PyTorch's Normal in float64, or the probabilities of each component of a discrete action."""
    parts = getattr(distribution, "distributions", None) or distribution.distribution
    parts = parts if isinstance(parts, list) else [parts]
    if isinstance(parts[0], Normal):
        return [Normal(parts[0].loc.double(), parts[0].scale.double())]
    if isinstance(parts[0], Bernoulli):  # SB3's of MultiBinary actions; sb3-contrib's masked one is categorical
        on = th.sigmoid(parts[0].logits.double()).numpy()
        return [np.stack([1 - column, column], axis=1) for column in on.T]
    return [th.softmax(part.logits.double(), dim=-1).numpy() for part in parts]


def kl_of(old: list[Any], new: list[Any]) -> np.ndarray:
    if isinstance(old[0], Normal):
        return kl_divergence(old[0], new[0]).sum(dim=1).numpy()
    return np.sum([rel_entr(p, q).sum(axis=1) for p, q in zip(old, new, strict=True)], axis=0)


def log_prob(parts: list[Any], actions: np.ndarray) -> np.ndarray:
    if isinstance(parts[0], Normal):
        return parts[0].log_prob(th.as_tensor(actions).double()).sum(dim=1).numpy()
    columns = actions.reshape(len(actions), -1).astype(int).T
    with np.errstate(divide="ignore"):
        return np.sum([np.log(part[np.arange(len(c)), c]) for part, c in zip(parts, columns, strict=True)], axis=0)
