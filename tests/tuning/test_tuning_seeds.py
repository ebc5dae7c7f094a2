"""Seeds: disjoint, stable, and independent of everything but the study's seed."""

import os
import subprocess
import sys
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sb3_ppo_variants.tuning.study import seeds
from sb3_ppo_variants.tuning.study.seeds import SEED_STRIDE, RunSeed, SeedSets, seed_sets, stream_seed

sizes = st.integers(min_value=0, max_value=40)


def numbers(sets: SeedSets) -> list[int]:
    runs = (*sets.tuning, *sets.validation, *sets.test)
    return [number for run in runs for number in (run.training, run.evaluation)]


@given(seed=st.integers(0, 2**32), tuning=sizes, validation=sizes, test=sizes)
def test_no_two_environments_of_a_study_share_a_seed(seed: int, tuning: int, validation: int, test: int) -> None:
    sets = seed_sets(seed, tuning=tuning, validation=validation, test=test)
    drawn = sorted(numbers(sets))
    assert len(drawn) == 2 * (tuning + validation + test)
    gaps = [later - earlier for earlier, later in pairwise(drawn)]
    assert min(gaps, default=SEED_STRIDE) >= SEED_STRIDE
    assert all(0 <= number < 2**31 for number in drawn)


def test_purposes_never_meet_whatever_their_sizes() -> None:
    tuning = {run.training for run in seed_sets(0, tuning=10_000, validation=0, test=0).tuning}
    test = {run.training for run in seed_sets(1, tuning=0, validation=0, test=10_000).test}
    assert not tuning & test


def test_more_test_seeds_leave_the_other_seeds_as_they_were() -> None:
    few = seed_sets(7, tuning=2, validation=1, test=3)
    more = seed_sets(7, tuning=2, validation=1, test=9)
    assert more.test[:3] == few.test
    assert (more.tuning, more.validation) == (few.tuning, few.validation)


def test_seeds_of_a_study_are_the_same_for_ever() -> None:
    assert seed_sets(0, tuning=1, validation=0, test=1) == SeedSets(
        tuning=(RunSeed(training=1722789888, evaluation=2024939520),),
        validation=(),
        test=(RunSeed(training=1409566720, evaluation=1800173568),),
    )
    assert stream_seed(0, "sampler", "ppo", "CartPole-v1", 3) == 2874955953


def test_streams_do_not_depend_on_the_salt_of_hash() -> None:
    # The file alone: importing the package would take seconds
    code = (
        f"import runpy; stream_seed = runpy.run_path({seeds.__file__!r})['stream_seed'];"
        "print(stream_seed(0, 'sampler', 'ppo', 'CartPole-v1', 3))"
    )
    command = [sys.executable, "-c", code]
    salted = {**os.environ, "PYTHONHASHSEED": "1"}
    printed = subprocess.run(command, env=salted, check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "2874955953"


def test_every_stream_has_its_own_seed() -> None:
    labels = [("a", "b"), ("ab",), ("b", "a"), ("a", "b", 1), ("a", "b", 11), ("a", "b1", 1)]
    assert len({stream_seed(seed, *label) for label in labels for seed in (0, 1, 10)}) == 3 * len(labels)


@pytest.mark.parametrize("arguments", [{"seed": -1}, {"tuning": -1}, {"test": 10_001}])
def test_nonsensical_requests_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="seed"):
        seed_sets(**{"seed": 0, "tuning": 1, "validation": 1, "test": 1, **arguments})
