"""Which pairs of a study can run: each one's model is built on its environment before any work."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from sb3_contrib.common.maskable.utils import is_masking_supported
from stable_baselines3.common.vec_env import VecEnv

from sb3_ppo_variants.entries.checks import ENVIRONMENT_KEYS
from sb3_ppo_variants.entries.entry import Entry
from sb3_ppo_variants.evaluation import knows_masks
from sb3_ppo_variants.registry import algorithms
from sb3_ppo_variants.tuning_space import TuningSpace

from ..runs.cell import canonical_json
from ..runs.faults import describe
from .configurations import is_own
from .study_file import Study


def runnable(study: Study) -> tuple[Study, dict[str, str]]:
    """Refuse a study with pairs that can never run; of a study of all algorithms, leave out those that cannot.

    All environments are ranked together, so an algorithm that cannot run on one of them is left out altogether.

    :param study: a checked study
    :return: the study of those that can run, and algorithm -> environment and reason of those that cannot
    :raises ValueError: an algorithm that somebody picked cannot run, or none can
    """
    reasons = _unable(study)
    # Where all are ranked nobody picked them: the file or the command says "all"
    own = {name for name, configuration in study.algorithms.items() if is_own(name, configuration)}
    nobody_picked = algorithms().keys() <= study.algorithms.keys() and not own & reasons.keys()
    if reasons and (not nobody_picked or len(reasons) == len(study.algorithms)):
        raise ValueError("; ".join(f"{algorithm} {reason}" for algorithm, reason in reasons.items()))
    able = {name: configuration for name, configuration in study.algorithms.items() if name not in reasons}
    return study.model_copy(update={"algorithms": able}), reasons


def _unable(study: Study) -> dict[str, str]:
    """Algorithm -> the first environment that it cannot run on, and why."""
    reasons: dict[str, str] = {}
    with ExitStack() as stack, _quick_and_quiet():
        envs = _Environments(stack)
        for algorithm, env_id in study.pairs:
            space = study.space(algorithm, env_id)
            reason = None if algorithm in reasons else _why_not(algorithm, env_id, space, envs)
            if reason is not None:
                reasons[algorithm] = f"cannot run on {env_id}: {reason}"
    return reasons


def _why_not(name: str, env_id: str, space: TuningSpace, envs: "_Environments") -> str | None:
    """Why the registered configuration of a pair cannot run; None if it can."""
    try:
        entry = Entry(space.algorithm.cls, env_id, space.default, name=name)
        env = envs.of(entry)
        if knows_masks(entry.cls) and not is_masking_supported(env):
            return "it asks for action masks, and the environment has no method action_masks"
        entry.make_model(env, device="cpu", verbose=0, n_steps=space.rollout_size)
    except (ValueError, AssertionError) as error:
        return " ".join(str(error).split()) or describe(error)
    except Exception as error:
        return describe(error)
    return None


class _Environments:
    """One copy of each environment, which algorithms share whose entries make the same.

    :param stack: closes them
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._made: dict[str, VecEnv] = {}

    def of(self, entry: Entry) -> VecEnv:
        """The environment of an entry."""
        keys = [key for key in ENVIRONMENT_KEYS if key not in ("n_envs", "n_timesteps")]
        content = canonical_json([entry.env_id, {key: entry.entry.get(key) for key in keys}])
        if content not in self._made:
            self._made[content] = entry.make_env(n_envs=1)
            self._stack.callback(self._made[content].close)
        return self._made[content]


@contextmanager
def _quick_and_quiet() -> Iterator[None]:
    """One thread: for networks of this size more take far longer. What SB3 warns of in a run is said there."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_num_threads(threads)
