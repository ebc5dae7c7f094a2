"""The harness trains and scores the families: the environment's masks reach the evaluations of a cell."""

from typing import Any

import gymnasium as gym
import pytest
from memory_task import CueCorridor
from sb3_ppo_variants.tuning.runs.cell import Cell, Evaluation, run_cell

from sb3_ppo_variants.families import MaskableClipPPO, MaskableRecurrentTrustRegionPPO
from sb3_ppo_variants.testing import MULTI_DISCRETE, VECTOR, MaskedSpaceEnv

# Taking an invalid action is an error in the first, and ends the episode without a reward in the second
STRICT, CORRIDOR = "StrictMasks-v0", "CueCorridor-v0"
gym.register(STRICT, entry_point=lambda: MaskedSpaceEnv(VECTOR, MULTI_DISCRETE))
gym.register(CORRIDOR, entry_point=CueCorridor)

ENTRY: dict[str, Any] = {"policy": "MlpPolicy", "n_envs": 2, "n_steps": 16, "batch_size": 16, "n_epochs": 1}


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("algorithm", ["maskable_spo", "maskable_recurrent_spo"])
def test_a_cell_is_evaluated_with_masks(algorithm: str, normalize: bool) -> None:
    evaluation = Evaluation(seed=7, episodes=3, checkpoints=2)
    entry = ENTRY | {"normalize": normalize}
    cell = Cell(algorithm=algorithm, environment=STRICT, entry=entry, seed=1, steps=64, evaluation=evaluation)
    result = run_cell(cell)
    assert (result.status, result.reason) == ("ok", "")
    assert len(result.returns) == 3
    assert len(result.curve) == 2


def test_an_environment_without_masks_is_a_failure_with_a_reason() -> None:
    evaluation = Evaluation(seed=7, episodes=3, checkpoints=1)
    cell = Cell(
        algorithm="maskable_spo", environment="CartPole-v1", entry=ENTRY, seed=1, steps=64, evaluation=evaluation
    )
    result = run_cell(cell)
    assert result.status == "failed"
    assert "mask" in result.reason


@pytest.mark.parametrize("cls", [MaskableClipPPO, MaskableRecurrentTrustRegionPPO])
def test_from_zoo_builds_a_form_with_the_default_entry(cls: Any) -> None:
    model = cls.from_zoo(CORRIDOR, n_steps=32, seed=1, device="cpu")
    assert model.learn(32).num_timesteps == 32
