"""A finished study without a run: 3 algorithms, 2 environments, 5 seeds, generated numbers, trials in study.db."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from sb3_ppo_variants.tuning.proposals import distributions
from sb3_ppo_variants.tuning.protocol import protocol_digest, protocol_of
from sb3_ppo_variants.tuning.results import RANKING_SCHEMA
from sb3_ppo_variants.tuning.study import Study
from sb3_ppo_variants.tuning.trial_log import TrialLog, open_storage

ALGORITHMS = ["clip_ppo", "ppo", "trpo"]
ENVIRONMENTS = {"CartPole-v1": {"steps": 20_000}, "Acrobot-v1": {"steps": 40_000}}
LEVELS = {"clip_ppo": 0.9, "ppo": 0.8, "trpo": 0.6}


def finished(folder: Path, *, trials: int = 12, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """Write ``ranking.json`` and ``study.db`` into ``folder``; the ranking's content with ``changes`` in it."""
    study = Study.model_validate(
        {
            "algorithms": ALGORITHMS,
            "environments": ENVIRONMENTS,
            "budget": {"trials": trials, "tuning_seeds": 2, "test_seeds": 5},
            "seed": seed,
        }
    )
    protocol = protocol_of("made_up", study)
    content = {**ranking(study, protocol), **changes}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ranking.json").write_text(json.dumps(content))
    write_trials(folder, study, protocol)
    return content


def ranking(study: Study, protocol: dict[str, Any]) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    lines = [
        line(algorithm, rank, study, protocol, rng)
        for rank, algorithm in enumerate(sorted(ALGORITHMS, key=lambda name: -LEVELS[name]), start=1)
    ]
    lines[2]["scores"]["Acrobot-v1"][4] |= {
        "status": "failed", "reason": "NaN in <the observation>", "raw": None, "normalised": -1.0,
    }  # fmt: skip
    lines[2]["failed_test_runs"] = 1
    taus = np.linspace(0, 1.2, 41)
    return {
        "schema_version": RANKING_SCHEMA,
        "verdict": "clip_ppo ranks first (IQM 0.90 [0.85, 0.95]) and is separable from TRPO, not from PPO.",
        "ranking": lines,
        "warnings": ["Only 5 test seeds: the intervals are too narrow."],
        "one_for_all": [
            {"algorithm": name, "rank": rank, **interval(LEVELS[name] - 0.1, "iqm"), "mean": LEVELS[name] - 0.12,
             "params": {"learning_rate": 0.0003, "gae_lambda": 0.95}}
            for rank, name in enumerate(LEVELS, start=1)
        ],
        "performance_profiles": {
            "taus": taus.tolist(),
            "algorithms": {name: profile(taus, level) for name, level in LEVELS.items()},
        },
        "curves": {env_id: {name: curves(name, env_id, study, rng) for name in ALGORITHMS} for env_id in ENVIRONMENTS},
        "failures": [
            {"algorithm": "trpo", "environment": "Acrobot-v1", "stage": "test", "seed": 4096,
             "reason": "NonFiniteUpdateError: NaN in <the observation>"}
        ],
        "protocol": protocol,
    }  # fmt: skip


def interval(value: float, name: str = "value", width: float = 0.05) -> dict[str, float]:
    return {name: value, "ci_low": value - width, "ci_high": value + width}


def line(algorithm: str, rank: int, study: Study, protocol: dict[str, Any], rng: Any) -> dict[str, Any]:
    level = LEVELS[algorithm]
    others = {name: None if name == algorithm else interval(0.5 + level - LEVELS[name]) for name in ("trpo", "ppo")}
    differences = {name: None if name == algorithm else interval(level - LEVELS[name]) for name in ("trpo", "ppo")}
    chances = np.full(3, 0.1)
    chances[rank - 1] = 0.8
    seeds = [run["training"] for run in protocol["seeds"]["test"]]
    return {
        "algorithm": algorithm, "rank": rank, **interval(level, "iqm"), "mean": level - 0.01,
        "area_under_curve": interval(level - 0.2),
        "score_at_equal_seconds": None if algorithm == "trpo" else interval(level - 0.1),
        "rank_probabilities": chances.tolist(),
        "probability_of_improvement": others,
        "difference_from_trpo": differences["trpo"], "holm_p_value_vs_trpo": None if algorithm == "trpo" else 0.004,
        "separable_from_trpo": None if algorithm == "trpo" else True,
        "difference_from_ppo": differences["ppo"], "separable_from_ppo": None if algorithm == "ppo" else False,
        "seconds": 12.5, "steps_per_second": 1600.0,
        "trials": {"run": 2 * study.budget.trials, "pruned": 3, "failed": 1}, "failed_test_runs": 0,
        "scores": {
            env_id: [
                {"seed": seed, "status": "ok", "reason": "", "raw": raw(env_id, level, study, rng), "normalised": level,
                 "cell": f"{seed:x}"}
                for seed in seeds
            ]
            for env_id in ENVIRONMENTS
        },
        "best": {env_id: best(algorithm, env_id, study) for env_id in ENVIRONMENTS},
    }  # fmt: skip


def raw(env_id: str, level: float, study: Study, rng: Any) -> float:
    scale = study.scale(env_id)
    return scale.random + (level + 0.05 * rng.normal()) * (scale.reference - scale.random)


def best(algorithm: str, env_id: str, study: Study) -> dict[str, Any]:
    space = study.space(algorithm, env_id)
    entry = space.entry({**space.default_params, "learning_rate": 0.00042, "activation_fn": "relu"})
    return {"trial": 3, "tuning_value": LEVELS[algorithm] + 0.02, "entry": entry}


def profile(taus: Any, level: float) -> dict[str, list[float]]:
    value = 1 / (1 + np.exp((taus - level) / 0.08))
    return {
        "value": value.tolist(),
        "ci_low": np.clip(value - 0.08, 0, 1).tolist(),
        "ci_high": np.clip(value + 0.08, 0, 1).tolist(),
    }


def curves(algorithm: str, env_id: str, study: Study, rng: Any) -> list[dict[str, Any]]:
    steps = ENVIRONMENTS[env_id]["steps"]
    return [
        {
            "seed": seed,
            "points": [
                {"steps": steps * i // 10, "seconds": 1.5 * i,
                 "score": raw(env_id, LEVELS[algorithm] * (1 - 0.6**i), study, rng)}
                for i in range(1, 11)
            ] if (algorithm, seed) != ("trpo", 4) else [],
        }
        for seed in range(5)
    ]  # fmt: skip


def write_trials(folder: Path, study: Study, protocol: dict[str, Any]) -> None:
    storage = open_storage(f"sqlite:///{folder / 'study.db'}")
    for algorithm, env_id in study.pairs:
        space = study.space(algorithm, env_id)
        known = distributions(space.parameters)
        sampler = optuna.samplers.RandomSampler(seed=0)
        draws = optuna.create_study(sampler=sampler)
        log = TrialLog(storage, f"{'made_up'}-{protocol_digest(protocol)}/{algorithm}/{env_id}", known)
        for number in range(study.budget.trials):
            params = space.default_params if number == 0 else dict(draws.ask(known).params)
            log.begin(number, params)
            log.finish(number, 0.9 - 0.1 * abs(np.log10(params["learning_rate"]) + 3.3) - 0.001 * number, {})
