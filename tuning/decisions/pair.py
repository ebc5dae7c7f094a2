"""One (algorithm, environment) of a study: its search space, seeds and scale, and the cells that follow from them."""

from dataclasses import dataclass
from typing import Any

from sb3_ppo_variants.tuning_space import TuningSpace

from ..runs.cell import Cell, CellResult, Evaluation
from ..study.scales import Scale
from ..study.seeds import RunSeed, SeedSets
from ..study.study_file import Study
from .trial import Run


@dataclass(frozen=True, eq=False)
class Pair:
    """What all runs of one (algorithm, environment) have in common.

    :param algorithm: what the study calls it: its id, or the name of a configuration
    :param env_id: environment id
    :param study: budgets, sampler, pruner and seed
    :param seeds: run seeds of the whole study
    :param space: what is tuned
    :param scale: how returns are normalised
    """

    algorithm: str
    env_id: str
    study: Study
    seeds: SeedSets
    space: TuningSpace
    scale: Scale

    @property
    def steps(self) -> int:
        """Training steps of a run."""
        return self.study.environments[self.env_id].steps

    def scoring_cell(self, entry: dict[str, Any], seed: RunSeed) -> Cell:
        """A run that scores a configuration: no learning curve."""
        return self._cell(entry, seed, checkpoints=1)

    def test_cell(self, entry: dict[str, Any], seed: RunSeed) -> Cell:
        """A run that is reported, with its learning curve."""
        return self._cell(entry, seed, self.study.evaluation.checkpoints)

    def normalised(self, result: CellResult) -> float:
        """Normalised score of a run; the floor when it failed."""
        return self.scale.normalise(result.score)

    def run(self, result: CellResult) -> Run:
        """What is kept of a run that scores a configuration."""
        return Run(self.normalised(result), result.score, result.reason, result.is_fault)

    def _cell(self, entry: dict[str, Any], seed: RunSeed, checkpoints: int) -> Cell:
        evaluation = Evaluation(seed=seed.evaluation, episodes=self.study.evaluation.episodes, checkpoints=checkpoints)
        return Cell(
            algorithm=self.space.algorithm.id,
            environment=self.env_id,
            entry=entry,
            seed=seed.training,
            steps=self.steps,
            evaluation=evaluation,
            checkpoint_every=self.study.budget.checkpoint_every,
        )
