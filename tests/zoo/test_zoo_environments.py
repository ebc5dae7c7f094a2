"""A variant on each kind of environment: trained with its registered settings, played, filmed, a frame looked at."""

from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from helpers import mostly_slow
from stable_baselines3.common.monitor import load_results
from stable_baselines3.common.vec_env import VecEnv
from zoo_helpers import command, frames

from sb3_ppo_variants.registry import get_algorithm
from sb3_ppo_variants.vec_env import GymVectorEnv
from sb3_ppo_variants.zoo import rendering


@dataclass(frozen=True)
class Case:
    """An environment, an algorithm for it, and what its film shows."""

    algo: str
    env_id: str
    frame: tuple[int, int]  # height, width
    observation: tuple[int, ...]
    steps: int
    params: tuple[str, ...] = ("n_envs:1", "n_steps:32", "n_epochs:1", "batch_size:32")
    normalized: bool = False


CASES = [
    Case("adaptive_clip_ppo", "CartPole-v1", (400, 600), (4,), 64),
    Case("trust_region_ppo", "Pendulum-v1", (500, 500), (3,), 64),
    Case("spo", "LunarLander-v3", (400, 600), (8,), 64),
    Case("rpo", "HalfCheetah-v5", (480, 480), (17,), 64, normalized=True),
    Case("espo", "MiniGrid-Empty-Random-5x5-v0", (160, 160), (2835,), 64, normalized=True),
    Case("trgppo", "ALE/Breakout-v5", (210, 160), (4, 84, 84), 32),
]


def check_can_be_drawn(env_id: str) -> None:
    if "mujoco" in str(gym.spec(env_id).entry_point) and not rendering.has_display():
        renderer = rendering.off_screen_renderer()
        if renderer is None:
            pytest.skip(f"no frames here: {rendering.MEND}")


# A game with wrappers and stacked frames; the others with the slow tests
_ALWAYS = ("ALE/Breakout-v5",)


@pytest.mark.end_to_end
@pytest.mark.parametrize(
    "case",
    mostly_slow(CASES, lambda case: case.env_id in _ALWAYS, ids=lambda case: case.env_id),
)
def test_trained_played_and_filmed(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    import ale_py
    import minigrid

    gym.register_envs(ale_py)
    gym.register_envs(minigrid)
    check_can_be_drawn(case.env_id)
    model = ["--algo", case.algo, "--env", case.env_id]
    command("train", *model, "-n", case.steps, "--eval-freq", -1, "--seed", 1, "-params", *case.params)
    folder = case.env_id.replace("/", "-")
    run = Path(f"logs/{case.algo}/{folder}_1")
    assert (run / folder / "vecnormalize.pkl").is_file() is case.normalized
    cls = get_algorithm(case.algo).cls
    assert cls.load(run / f"{folder}.zip").observation_space.shape == case.observation

    command("enjoy", *model, "-f", "logs", "--no-render", "-n", 30, "--reward-log", "rewards")
    assert load_results("rewards").l.sum() <= 30

    command("record-video", *model, "-f", "logs", "-n", 12, "-o", "films")
    (film,) = Path("films").glob(f"final-model-{case.algo}-{folder}-*.mp4")
    pictures = frames(film)
    assert pictures.shape[1:] == (*case.frame, 3)
    assert len(pictures) >= 12
    assert all(picture.std() > 5 for picture in pictures)
    assert len(np.unique(pictures[0].reshape(-1, 3), axis=0)) > 10


@pytest.mark.parametrize("value", ["'gymnasium'", "dict(gymnasium=dict(vectorization_mode='sync'))"])
def test_trained_and_played_in_vector_environments(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[GymVectorEnv] = []
    initialise = GymVectorEnv.__init__
    monkeypatch.setattr(GymVectorEnv, "__init__", lambda self, env: (initialise(self, env), made.append(self))[0])
    model = ["--algo", "clip_ppo", "--env", "CartPole-v1"]
    params = ("n_envs:2", "n_steps:16", "batch_size:32", "n_epochs:1", f"vec_env:{value}")
    command("train", *model, "-n", 32, "--eval-freq", 16, "--eval-episodes", 1, "--seed", 1, "-params", *params)
    assert [env.num_envs for env in made] == [1, 2] or [env.num_envs for env in made] == [2, 1]
    command("enjoy", *model, "-f", "logs", "--no-render", "-n", 10)


@pytest.mark.end_to_end
def test_a_film_of_mujoco_needs_no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    check_can_be_drawn("HalfCheetah-v5")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    if not rendering.off_screen_renderer():
        pytest.skip(f"no frames here: {rendering.MEND}")
    rendering.prepare_film("HalfCheetah-v5")
    env: VecEnv = gym.make_vec("HalfCheetah-v5", num_envs=1, render_mode="rgb_array")
    env.reset(seed=0)
    (frame,) = env.render()
    env.close()
    assert frame.shape == (480, 480, 3)
    assert frame.std() > 10


@pytest.mark.slow
def test_a_variant_learns_cartpole_with_its_registered_settings() -> None:
    model = ["--algo", "adaptive_clip_ppo", "--env", "CartPole-v1"]
    command("train", *model, "--seed", 1, "--eval-freq", 20000)
    command("enjoy", *model, "-f", "logs", "--no-render", "-n", 5000, "--reward-log", "rewards")
    assert load_results("rewards").r.mean() > 475  # gymnasium's threshold of a solved CartPole-v1
