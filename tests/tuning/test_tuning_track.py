"""What a track decides: pruning between seeds, validation of the best, one configuration for all environments."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import pytest
from helpers import mostly_slow
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_ppo_variants.tuning.decisions import proposals
from sb3_ppo_variants.tuning.decisions.decisions import Decisions
from sb3_ppo_variants.tuning.decisions.proposals import Proposal, frozen_trial, propose
from sb3_ppo_variants.tuning.decisions.pruning import Medians, falls_behind
from sb3_ppo_variants.tuning.decisions.track import Track
from sb3_ppo_variants.tuning.runs.cell import Cell, CellResult, failed_result
from sb3_ppo_variants.tuning.study.protocol import study_seeds
from sb3_ppo_variants.tuning.study.scales import FLOOR, scale_of
from sb3_ppo_variants.tuning.study.study_file import EnvironmentBudget, Study
from tuning_helpers import PPO_ALONE, Threads, coordinate, finished, registered, study

from sb3_ppo_variants.search_space import FloatRange
from sb3_ppo_variants.tuning_space import SHARED

Scores = Callable[[int, str, int], float | None]
"""Trial, stage and index of the seed -> normalised score, None for a failed run."""


def run_by(of: Study, scores: Scores) -> Callable[[Cell], CellResult]:
    """A run that knows which trial and which seed it is; trials are told apart by their order of appearance."""
    seeds = study_seeds(of)
    purposes = {
        seed.training: (stage, index)
        for stage in ("tuning", "validation", "test")
        for index, seed in enumerate(getattr(seeds, stage))
    }
    numbers: dict[str, int] = {}

    def run(cell: Cell) -> CellResult:
        number = numbers.setdefault(str(cell.entry), len(numbers))
        score = scores(number, *purposes[cell.seed])
        if score is None:
            return failed_result("it exploded")
        scale = scale_of(cell.environment)
        return finished(scale.random + score * (scale.reference - scale.random), steps=cell.steps)

    return run


def tracked(folder: Path, scores: Scores, **budget: Any) -> Track:
    """The track of one algorithm after its study; one trial and one run at a time, so that their order is known."""
    of = study(trials_in_flight=1, **budget).model_copy(update={"algorithms": PPO_ALONE, "sampler": "random"})
    return coordinate(folder, Threads(slots=1), run=run_by(of, scores), of=of).tracks[0]


def stored(folder: Path) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="test/ppo/CartPole-v1", storage=f"sqlite:///{folder / 'study.db'}").trials


def test_a_trial_below_the_median_is_given_up_from_the_fifth_on(tmp_path: Path) -> None:
    levels = [0.5, 0.1, 0.2, 0.6, 0.3, 0.4, 0.9]
    track = tracked(tmp_path, lambda trial, stage, seed: levels[trial], trials=7, tuning_seeds=3)
    # medians of the earlier: (0.5, 0.1, 0.2, 0.6) -> 0.35, with 0.3 -> 0.3, with 0.4 -> 0.35
    assert [trial.pruned for trial in track.tuning.trials] == [False, False, False, False, True, False, False]
    assert [len(trial.reports) for trial in track.tuning.trials] == [3, 3, 3, 3, 1, 3, 3]
    assert track.tuning.trials[4].value is None
    trial = stored(tmp_path)[4]
    assert (trial.state.name, trial.value) == ("PRUNED", pytest.approx(0.3))
    assert trial.intermediate_values == {1: pytest.approx(0.3)}
    assert stored(tmp_path)[5].intermediate_values == {
        1: pytest.approx(0.4),
        2: pytest.approx(0.4),
        3: pytest.approx(0.4),
    }
    assert track.planned_runs == 7 * 3 - 2 + 3 * 1 + 2


def test_a_later_seed_may_give_a_trial_up_too(tmp_path: Path) -> None:
    def scores(trial: int, stage: str, seed: int) -> float:
        return (0.9, 0.0, 0.0)[seed] if trial == 4 and stage == "tuning" else 0.5

    track = tracked(tmp_path, scores, trials=5, tuning_seeds=3)
    assert track.tuning.trials[4].pruned
    assert track.tuning.trials[4].reports == [pytest.approx(0.9), pytest.approx(0.45)]


def test_a_trial_at_the_median_is_kept(tmp_path: Path) -> None:
    track = tracked(tmp_path, lambda *run: 1.05, trials=6)
    assert track.tuning.pruned == 0


def test_a_failed_run_is_a_failure_and_never_pruned(tmp_path: Path) -> None:
    track = tracked(tmp_path, lambda trial, *run: None if trial == 5 else 0.5, trials=6)
    assert (track.tuning.trials[5].pruned, track.tuning.trials[5].value) == (False, FLOOR)
    assert (stored(tmp_path)[5].state.name, stored(tmp_path)[5].value) == ("COMPLETE", FLOOR)


def test_without_a_pruner_every_trial_meets_every_seed(tmp_path: Path) -> None:
    of = study(trials_in_flight=1, trials=6).model_copy(update={"algorithms": PPO_ALONE, "pruner": "none"})
    track = coordinate(tmp_path, Threads(slots=1), run=run_by(of, lambda trial, *run: 1.0 - trial / 10), of=of).tracks[
        0
    ]
    assert all(trial.value is not None for trial in track.tuning.trials)


def test_a_trial_is_held_against_those_it_was_proposed_from_alone(tmp_path: Path) -> None:
    """With three in flight, the trial 5 knows the trials 0 to 2 only, whatever else has finished: it is not pruned."""
    of = study(trials_in_flight=3, trials=6).model_copy(update={"algorithms": PPO_ALONE})
    track = coordinate(tmp_path, Threads(slots=1), run=run_by(of, lambda trial, *run: 1.0 - trial / 10), of=of).tracks[
        0
    ]
    assert track.tuning.pruned == 0


def medians(*trials: list[float]) -> list[float]:
    known = Medians()
    for reports in trials:
        known.add(reports)
    return known.now()


def test_the_median_rule() -> None:
    assert not falls_behind([0.2], medians([0.3], [0.3], [0.3])), "too few to hold it against"
    assert falls_behind([0.2], medians([0.1], [0.3], [0.4, 0.0], [0.3]))
    assert not falls_behind([0.3], medians([0.1], [0.3], [0.4], [0.3]))
    assert not falls_behind([0.3, 0.2], medians([0.9], [0.9], [0.9], [0.4, 0.1])), "compared after as many runs"
    assert not falls_behind([0.0, 0.0, 0.0], medians([0.9], [0.9, 0.9], [0.9], [0.9])), "nobody came this far"


@given(st.lists(st.lists(st.floats(-1, 2), min_size=1, max_size=4), min_size=4, max_size=12))
@settings(max_examples=25, deadline=None)
def test_medians_are_those_of_all_trials_that_came_as_far(trials: list[list[float]]) -> None:
    longest = max(map(len, trials))
    assert medians(*trials) == [
        median(reports[run] for reports in trials if run < len(reports)) for run in range(longest)
    ]


def test_samplers_see_pruned_trials_as_pruned() -> None:
    space = {"gae_lambda": FloatRange(0.0, 1.0)}
    known = proposals.distributions(space)
    trial = frozen_trial(Proposal({"gae_lambda": 0.5}, reports=[0.1, 0.2], pruned=True), known)
    assert (trial.state.name, trial.value, trial.intermediate_values) == ("PRUNED", 0.2, {1: 0.1, 2: 0.2})
    good = [Proposal({"gae_lambda": 0.9 + n / 1000}, 1.0 + n / 100) for n in range(10)]
    bad = [Proposal({"gae_lambda": 0.1 + n / 1000}, reports=[0.0], pruned=True) for n in range(30)]
    drawn = [propose(space, [*good, *bad], sampler="tpe", seed=seed)["gae_lambda"] for seed in range(10)]
    assert sum(drawn) / 10 > 0.5


@pytest.mark.parametrize("sampler", mostly_slow(["tpe", "random"], ["random"]))
def test_a_resumed_study_does_not_repeat_its_draws(tmp_path: Path, sampler: str) -> None:
    of = study(trials=4).model_copy(update={"algorithms": PPO_ALONE, "sampler": sampler})
    coordinate(tmp_path, of=study(trials=2).model_copy(update={"algorithms": PPO_ALONE, "sampler": sampler}))
    track = coordinate(tmp_path, of=of).tracks[0]
    assert len({str(trial.params) for trial in track.tuning.trials}) == 4


def test_the_best_three_meet_fresh_seeds_and_the_best_of_them_is_tested(tmp_path: Path) -> None:
    validation = {1: 0.2, 3: 0.6, 4: 0.4}

    def scores(trial: int, stage: str, seed: int) -> float:
        return [0.1, 0.9, 0.2, 0.7, 0.8][trial] if stage == "tuning" else validation.get(trial, 0.0)

    track = tracked(tmp_path, scores, trials=5, validation_seeds=2)
    assert [candidate.number for candidate in track.candidates] == [1, 4, 3]
    assert track.tuning.best is track.tuning.trials[1]
    assert track.winner is track.tuning.trials[3], "validation alone decides"
    assert track.winner.validation_value == pytest.approx(0.6)
    assert [cell.entry for cell in track.test_cells()] == [track.tuning.trials[3].entry] * 2
    assert [cell.seed for cell in track.test_cells()] == [seed.training for seed in track.pair.seeds.test]


def test_equals_in_validation_are_told_apart_by_tuning_then_by_age(tmp_path: Path) -> None:
    track = tracked(tmp_path, lambda trial, stage, seed: [0.1, 0.3, 0.3][trial] if stage == "tuning" else 0.5, trials=3)
    assert track.winner is track.tuning.trials[1]


def test_a_pruned_trial_is_no_candidate(tmp_path: Path) -> None:
    track = tracked(tmp_path, lambda trial, *run: [0.0, 0.0, 0.3, 0.3, 0.1][trial], trials=5, tuning_seeds=2)
    assert track.tuning.trials[4].pruned
    assert 4 not in [candidate.number for candidate in track.candidates]


def test_a_single_candidate_needs_no_validation(tmp_path: Path) -> None:
    executor = Threads(slots=1)
    of = study(trials=1).model_copy(update={"algorithms": PPO_ALONE})
    track = coordinate(tmp_path, executor, of=of).tracks[0]
    assert track.winner is track.tuning.trials[0]
    assert len(executor.keys) == track.planned_runs == 2 + 2


def two_environments(**changes: Any) -> Study:
    environments = {name: EnvironmentBudget(steps=20_000) for name in ("CartPole-v1", "Acrobot-v1")}
    return study(trials=2, tuning_seeds=1, test_seeds=2).model_copy(
        update={"algorithms": PPO_ALONE, "environments": environments, "sampler": "random", **changes}
    )


class Together:
    """A study of two environments in which a configuration is as good as its gae_lambda is near to 0.95."""

    def __init__(self, folder: Path) -> None:
        self.executor = Threads(slots=1)
        decisions = coordinate(folder, self.executor, run=self.run, of=two_environments())
        self.tracks = decisions.tracks
        self.view = decisions.one_for_all["ppo"]

    def run(self, cell: Cell) -> CellResult:
        scale = scale_of(cell.environment)
        score = 1.0 - abs(float(cell.entry.get("gae_lambda", 0.95)) - 0.95)
        return finished(scale.random + score * (scale.reference - scale.random), steps=cell.steps)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Together:
    return Together(tmp_path_factory.mktemp("together"))


def test_candidates_for_all_are_the_default_and_each_winner(together: Together) -> None:
    assert [candidate.origin for candidate in together.view.candidates] == [
        "registered default", "winner on CartPole-v1", "winner on Acrobot-v1",
    ]  # fmt: skip
    for candidate in together.view.candidates:
        assert [len(runs) for runs in candidate.validation] == [1, 1]


def test_the_best_mean_over_environments_is_chosen_and_tested_everywhere(together: Together) -> None:
    values = [candidate.value for candidate in together.view.candidates]
    chosen = together.view.chosen
    assert chosen is not None
    assert chosen.value == max(values)
    assert chosen.origin == "registered default", "its gae_lambda is 0.95 exactly"
    for track in together.tracks:
        cells = [cell for cell, _ in together.view.tested(track)]
        assert [cell.entry["gae_lambda"] for cell in cells] == [pytest.approx(0.95)] * 2
        assert [cell.seed for cell in cells] == [seed.training for seed in track.pair.seeds.test]


def test_one_configuration_keeps_what_is_registered_for_each_environment(together: Together) -> None:
    entries = [together.view.entry(track.pair, together.view.candidates[0].params) for track in together.tracks]
    assert [entry["n_envs"] for entry in entries] == [8, 16]
    assert entries[0]["learning_rate"] == entries[1]["learning_rate"]
    assert entries[0]["n_steps"] * 8 == entries[1]["n_steps"] * 16


def test_runs_that_are_there_already_are_not_made_again(together: Together) -> None:
    assert len(together.executor.keys) == len(set(together.executor.keys))


def test_with_one_environment_there_is_nothing_more_to_run(tmp_path: Path) -> None:
    assert not Decisions.of(study(), "test", f"sqlite:///{tmp_path / 'study.db'}").one_for_all


def test_every_algorithm_may_use_the_same_number_of_runs(tmp_path: Path) -> None:
    decisions = Decisions.of(
        two_environments(algorithms=registered("ppo", "trpo", "espo")), "test", f"sqlite:///{tmp_path / 'study.db'}"
    )
    planned = {
        track.pair.algorithm: (track.planned_runs, decisions.one_for_all[track.pair.algorithm].planned_runs)
        for track in decisions.tracks
    }
    assert len(set(planned.values())) == 1


def test_no_algorithm_is_lucky_with_its_draws(tmp_path: Path) -> None:
    """Where two spaces agree, the same trial of both draws the same values; another environment draws others."""
    of = study(trials=2, tuning_seeds=1).model_copy(
        update={
            "algorithms": registered("ppo", "spo"),
            "environments": {name: EnvironmentBudget(steps=20_000) for name in ("CartPole-v1", "Acrobot-v1")},
            "sampler": "random",
        }
    )
    drawn = {
        (track.pair.algorithm, track.pair.env_id): [trial.params for trial in track.tuning.trials[1:]]
        for track in coordinate(tmp_path, of=of).tracks
    }
    ppo, spo, acrobot = (
        [{name: params[name] for name in SHARED if name in drawn["ppo", "CartPole-v1"][0]} for params in trials]
        for trials in (drawn["ppo", "CartPole-v1"], drawn["spo", "CartPole-v1"], drawn["ppo", "Acrobot-v1"])
    )
    assert len(ppo[0]) > 8
    assert ppo == spo != acrobot
