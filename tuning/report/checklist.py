"""What a reviewer asks of a ranking, answered from its protocol and its numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from sb3_ppo_variants.tuning_space import SHARED

from ..ranking.power import power_text
from ..ranking.statistics import FEW_SEEDS
from ..study.configurations import configuration_in, described
from ..study.rules import FAILED_RUNS


@dataclass(frozen=True)
class Answer:
    """One line of the checklist.

    :param holds: whether it is so
    :param claim: what a reviewer wants to hear
    :param evidence: the numbers behind it
    """

    holds: bool
    claim: str
    evidence: str


def checklist(ranking: Mapping[str, Any]) -> list[Answer]:
    """The answers, each computed from the content of ``ranking.json``.

    :param ranking: its content
    """
    protocol = ranking["protocol"]
    return [
        *([_disjoint_seeds(protocol), _two_stages(protocol)] if protocol["budget"]["trials"] else [_untuned()]),
        _equal_budget(ranking),
        *([_equal_ranges(protocol)] if protocol["budget"]["trials"] else []),
        _critics(protocol),
        *_fixed(protocol),
        _baselines(protocol),
        _enough_seeds(protocol),
        *_power(ranking),
        _everybody_ranked(ranking),
        _every_run_counts(ranking),
        *_by_construction(protocol),
    ]


def _disjoint_seeds(protocol: Mapping[str, Any]) -> Answer:
    seeds = protocol["seeds"]
    sets = {
        name: {number for run in runs for number in (run["training"], run["evaluation"])}
        for name, runs in seeds.items()
    }
    holds = not any(left & right for left, right in combinations(sets.values(), 2))
    sizes = ", ".join(f"{len(seeds[name])} for {name}" for name in ("tuning", "validation", "test"))
    return Answer(holds, "The seeds that chose a configuration are not the seeds that are reported", f"Seeds: {sizes}")


def _two_stages(protocol: Mapping[str, Any]) -> Answer:
    seeds = protocol["budget"]["validation_seeds"]
    evidence = (
        f"The best {protocol['candidates']} configurations of tuning met {seeds} fresh seeds; chosen by: "
        f"{protocol['chosen_by']}"
    )
    return Answer(True, "A lucky tuning score does not choose the configuration", evidence)


def _untuned() -> Answer:
    evidence = "This study ranks configurations as they are, with --no-tune or trials: 0"
    return Answer(False, "The configurations were tuned with equal budgets", evidence)


def _equal_budget(ranking: Mapping[str, Any]) -> Answer:
    protocol = ranking["protocol"]
    counts = {line["algorithm"]: line["trials"]["run"] for line in [*ranking["ranking"], *ranking["unranked"]]}
    steps = ", ".join(f"{env_id} {number:,}" for env_id, number in protocol["environments"].items())
    numbers = ", ".join(f"{algorithm} {count}" for algorithm, count in counts.items())
    claim = "Every algorithm had the same budget of trials, seeds and steps"
    return Answer(len(set(counts.values())) == 1, claim, f"Trials: {numbers}. Steps of a run: {steps}")


def _equal_ranges(protocol: Mapping[str, Any]) -> Answer:
    different = set()
    for env_id in protocol["environments"]:
        for name in SHARED:
            ranges = {spaces[env_id].get(name) for spaces in protocol["search_spaces"].values()} - {None}
            if len(ranges) > 1:
                different.add(name)
    claim = "Shared hyperparameters were searched in the same ranges"
    return Answer(not different, claim, f"Different: {', '.join(sorted(different)) or 'none'}. Ranges stand below")


def _critics(protocol: Mapping[str, Any]) -> Answer:
    """A ranking in which only one side may train its critic on its own compares critics."""
    named: dict[str, list[str]] = {}
    may_be_own: dict[str, bool] = {}
    for name, environments in protocol["critics"].items():
        named.setdefault(" / ".join(dict.fromkeys(environments.values())), []).append(name)
        algorithm = configuration_in(protocol, name)["algorithm"]
        may_be_own[algorithm] = may_be_own.get(algorithm, False) or all("own" in how for how in environments.values())
    groups = "; ".join(f"{how}: {', '.join(names)}" for how, names in named.items())
    evidence = f"Critics, trained with the actor or on their own: {groups}"
    if may_be_own.pop("ppo", None) is not None:
        evidence += (
            ". Joint: trained with the actor, which is all that SB3's PPO can do; clip_ppo is PPO with the choice"
        )
    claim = "No algorithm could train its critic in a way that another could not, SB3's PPO aside"
    return Answer(len(set(may_be_own.values())) <= 1, claim, evidence)


def _fixed(protocol: Mapping[str, Any]) -> list[Answer]:
    """Named where there is anything: whoever fixes a value takes it out of the search."""
    configurations = protocol.get("configurations", {})
    fixed = [f"{name} ({described(each)})" for name, each in configurations.items() if each["hyperparameters"]]
    if not fixed:
        return []
    return [Answer(False, "The study gave no algorithm a value that others do not have", f"Given: {', '.join(fixed)}")]


def _baselines(protocol: Mapping[str, Any]) -> Answer:
    missing = [name for name in ("trpo", "ppo") if name not in protocol["algorithms"]]
    claim = "The baselines TRPO and PPO were treated like everybody else"
    evidence = f"Not in this study: {', '.join(missing)}" if missing else "Both are ranked"
    return Answer(not missing, claim, f"{evidence}. Trained: {protocol['baselines']}")


def _enough_seeds(protocol: Mapping[str, Any]) -> Answer:
    number = protocol["budget"]["test_seeds"]
    statistics = protocol["statistics"]
    evidence = (
        f"{number} test seeds for each algorithm and environment; {statistics['confidence']:.0%} intervals from "
        f"{statistics['bootstrap_resamples']:,} stratified resamplings"
    )
    return Answer(number >= FEW_SEEDS, f"At least {FEW_SEEDS} test seeds, so that the intervals cover", evidence)


def _power(ranking: Mapping[str, Any]) -> list[Answer]:
    text = power_text(ranking)
    claim = "It is known which difference the study could have shown"
    return [Answer(True, claim, f"{text[0].upper()}{text[1:]}")] if text else []


def _everybody_ranked(ranking: Mapping[str, Any]) -> Answer:
    missing = [f"{tested['algorithm']} is not ranked" for tested in ranking["unranked"]]
    missing += [f"{algorithm} was left out, it {reason}" for algorithm, reason in ranking["left_out"].items()]
    env_ids = [env_id for env_id in ranking["curves"] if env_id not in ranking["environments"]]
    missing += [f"{env_id} counts for no algorithm" for env_id in env_ids]
    faults = sum(failure["is_fault"] for failure in ranking["failures"])
    missing += [f"{faults} runs failed by what looks like a fault of sb3_ppo_variants"] if faults else []
    claim = "Every algorithm of the study ran on every environment"
    return Answer(not missing, claim, "; ".join(missing) or "Each has finished test runs on each of them")


def _every_run_counts(ranking: Mapping[str, Any]) -> Answer:
    wanted = ranking["protocol"]["budget"]["test_seeds"]
    tested = [*ranking["ranking"], *ranking["unranked"]]
    samples = [runs for line in tested for runs in line["scores"].values()]
    failed = sum(line["failed_test_runs"] for line in tested)
    holds = all(len(runs) == wanted for runs in samples)
    evidence = f"{sum(map(len, samples))} test runs, {failed} of them failed; {FAILED_RUNS}"
    return Answer(holds, "Every run is reported", evidence)


def _by_construction(protocol: Mapping[str, Any]) -> list[Answer]:
    """What the harness has no way of doing otherwise."""
    evaluation = protocol["evaluation"]
    return [
        Answer(
            True,
            "Scores are normalised with a fixed table, not with the runs that are compared",
            f"Table version {protocol['normalisation']['version']}; a failed run scores "
            f"{protocol['normalisation']['floor']}",
        ),
        Answer(
            True,
            "Evaluation is apart from training",
            f"{evaluation['episodes']} episodes with {protocol['actions_in_evaluation']} actions in environments of "
            "their own seeds, raw returns",
        ),
        Answer(
            True,
            "The registered configuration takes part",
            "It is trial 0 of every algorithm, with the values that the study gives where it gives any",
        ),
    ]
