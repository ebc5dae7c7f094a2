"""A finished study in seconds: everything is real but the training runs, whose learning curves are drawn by chance."""

import json
import random
from pathlib import Path
from typing import Any

from sb3_ppo_variants.tuning.decisions.coordinator import Coordinator
from sb3_ppo_variants.tuning.decisions.decisions import Decisions
from sb3_ppo_variants.tuning.ranking.make_ranking import make_ranking
from sb3_ppo_variants.tuning.ranking.result_files import write_results
from sb3_ppo_variants.tuning.runs.cell import Cell, CellResult, CurvePoint, failed_result, package_versions
from sb3_ppo_variants.tuning.runs.store import CellStore
from sb3_ppo_variants.tuning.study.protocol import pin_protocol, protocol_digest, protocol_of, study_seeds
from sb3_ppo_variants.tuning.study.scales import scale_of
from sb3_ppo_variants.tuning.study.study_file import Study
from tuning_helpers import Recorder, Threads

ALGORITHMS = ("clip_ppo", "ppo", "trpo")
ENVIRONMENTS = {"CartPole-v1": 20_000, "Acrobot-v1": 40_000}
REASON = "NonFiniteUpdateError: NaN in <the observation> & more"


def finished(
    folder: Path,
    *,
    name: str = "made_up",
    algorithms: tuple[str | dict[str, Any], ...] = ALGORITHMS,
    environments: dict[str, int] | None = None,
    failing: tuple[str, str] | None = None,
    order: tuple[str, ...] = (),
    **budget: int,
) -> dict[str, Any]:
    """Run a study over made-up runs; what ``ranking.json`` holds.

    :param folder: for the results
    :param name: of the study
    :param algorithms: the earlier, the better; as in a study file
    :param environments: and steps
    :param failing: algorithm and environment of which the first test run fails
    :param order: of the algorithms' ids from good to bad, where that is not the study's
    :param budget: what differs from a tiny one
    """
    steps = environments or ENVIRONMENTS
    study = Study.model_validate(
        {
            "algorithms": list(algorithms),
            "environments": {env_id: {"steps": number} for env_id, number in steps.items()},
            "budget": {"trials": 1, "tuning_seeds": 1, "test_seeds": 5, **budget},
            "sampler": "random",
        }
    )
    folder.mkdir(parents=True, exist_ok=True)
    protocol = pin_protocol(folder, protocol_of(name, study))
    decisions = Decisions.of(study, f"{name}-{protocol_digest(protocol)}", f"sqlite:///{folder / 'study.db'}")
    ids = order or [configuration.algorithm for configuration in study.algorithms.values()]
    first_test_seed = study_seeds(study).test[0].training
    store = CellStore(folder / "cells", lambda line: None)

    def run(cell: Cell) -> CellResult:
        fails = (cell.algorithm, cell.environment) == failing and cell.seed == first_test_seed
        return failed_result(REASON) if fails else made_up(cell, ids.index(cell.algorithm))

    Coordinator(decisions, store, Threads(slots=8), Recorder(), run=run).run()
    write_results(folder, make_ranking(decisions, protocol, study.seed), decisions.tracks)
    content: dict[str, Any] = json.loads((folder / "ranking.json").read_text())
    return content


def made_up(cell: Cell, place: int) -> CellResult:
    """A curve that rises the higher, the earlier the algorithm's place and the nearer its learning rate to 1e-3."""
    chance = random.Random(cell.key)  # noqa: S311
    scale = scale_of(cell.environment, None, None)
    rate = float(str(cell.entry.get("learning_rate", 3e-4)).removeprefix("lin_"))
    top = 0.95 - 0.06 * place - 0.2 * min(1.0, abs(rate - 1e-3) * 500) + chance.gauss(0, 0.05)
    points = []
    for index in range(1, cell.evaluation.checkpoints + 1):
        share = index / cell.evaluation.checkpoints
        score = scale.random + top * (1 - 0.02**share) * (scale.reference - scale.random)
        points.append(CurvePoint(steps=round(cell.steps * share), seconds=10 * share + place, score=score))
    return CellResult(
        status="ok", score=points[-1].score, returns=(points[-1].score,), curve=tuple(points), steps=cell.steps,
        seconds=points[-1].seconds, versions=package_versions(),
    )  # fmt: skip
