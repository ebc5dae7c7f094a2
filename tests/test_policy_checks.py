"""A policy of another kind than the algorithm's is refused before anything is built, wherever it arrives."""

import io
from typing import Any

import pytest
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.dqn.policies import DQNPolicy

from sb3_ppo_variants import ClipPPO, MaskableClipPPO, RecurrentClipPPO, UpdateLoop
from sb3_ppo_variants.testing import DICT, DISCRETE, VECTOR, make_env

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 16, "n_epochs": 1, "device": "cpu"}


@pytest.mark.parametrize(
    ("cls", "policy", "observations", "message"),
    [
        (ClipPPO, "MultiInputPolicy", VECTOR, "MultiInputActorCriticPolicy reads Dict observations.*use 'MlpPolicy'"),
        (ClipPPO, MultiInputActorCriticPolicy, VECTOR, "reads Dict observations.*use 'MlpPolicy'"),
        (ClipPPO, "CnnPolicy", VECTOR, "NatureCNN only with images"),
        (ClipPPO, ActorCriticPolicy, DICT, "cannot read Dict observations: use 'MultiInputPolicy'"),
        (ClipPPO, "MlpPolicy", DICT, "MultiInputPolicy"),
        (ClipPPO, "MlpLstmPolicy", VECTOR, "no policy 'MlpLstmPolicy': use one of MlpPolicy.*recurrent forms"),
        (ClipPPO, "MlpPolcy", VECTOR, "no policy 'MlpPolcy': use one of MlpPolicy, CnnPolicy, MultiInputPolicy.$"),
        (ClipPPO, RecurrentActorCriticPolicy, VECTOR, "has memory, and ClipPPO needs one without memory"),
        (ClipPPO, MaskableActorCriticPolicy, VECTOR, "knows masks.*ClipPPO needs one without memory and masks"),
        (ClipPPO, DQNPolicy, VECTOR, "DQNPolicy is no policy of an actor and a critic"),
        (ClipPPO, 3, VECTOR, "policy=3 is no policy"),
        (RecurrentClipPPO, ActorCriticPolicy, VECTOR, "RecurrentClipPPO needs one with memory"),
        (RecurrentClipPPO, "MultiInputLstmPolicy", VECTOR, "LstmMultiInputPolicy reads Dict observations"),
        (MaskableClipPPO, ActorCriticPolicy, VECTOR, "MaskableClipPPO needs one that knows masks"),
    ],
)
def test_a_policy_of_another_kind_is_refused(
    cls: type[UpdateLoop], policy: Any, observations: spaces.Space[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        cls(policy, make_env(observations, DISCRETE), **SMALL)


def test_a_policy_of_another_kind_is_refused_by_load() -> None:
    file = io.BytesIO()
    ClipPPO("MlpPolicy", make_env(), **SMALL).save(file)
    file.seek(0)
    with pytest.raises(ValueError, match="has memory"):
        ClipPPO.load(file, policy_class=RecurrentActorCriticPolicy)


def test_what_may_suit_is_left_to_sb3() -> None:
    class Flat(FlattenExtractor):
        """Reads a vector, whatever the policy's own extractor would read."""

    class Own(ActorCriticPolicy):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    ClipPPO(MultiInputActorCriticPolicy, make_env(), policy_kwargs={"features_extractor_class": Flat}, **SMALL)
    ClipPPO(Own, make_env(), **SMALL).learn(16)


def test_sb3s_callers_find_the_assertion_that_they_expect() -> None:
    with pytest.raises(AssertionError, match="NatureCNN only with images"):
        ClipPPO("CnnPolicy", make_env(VECTOR))
