"""A small study, and cells that need no training."""

from typing import Any

from sb3_ppo_variants.tuning.cell import Cell, CellResult, Evaluation

# Seconds of work: 2 algorithms, 1 environment, 2 trials, 2 seeds, 2,000 steps
SMALL_STUDY = """\
algorithms: [ppo, trpo]
environments:
  CartPole-v1: {steps: 2000}
budget: {trials: 2, tuning_seeds: 2, test_seeds: 2, time_limit: 60}
evaluation: {episodes: 2, checkpoints: 2}
"""


def make_cell(**changes: Any) -> Cell:
    """A cell of 512 steps of CartPole, with whatever is to be different."""
    content = {
        "algorithm": "ppo",
        "environment": "CartPole-v1",
        "entry": {"policy": "MlpPolicy", "n_envs": 2, "n_steps": 64, "batch_size": 64, "n_epochs": 2},
        "seed": 1024,
        "steps": 512,
        "evaluation": Evaluation(seed=4096, episodes=3, checkpoints=1),
    }
    return Cell(**{**content, **changes})


def make_result(score: float = 1.0) -> CellResult:
    """A finished run."""
    return CellResult(status="ok", score=score, returns=(score,), steps=512, seconds=0.5, versions={"python": "3"})
