"""The numbers of the method: the same in every study, and stated in its protocol."""

CANDIDATES = 3
"""Configurations that meet the validation seeds."""

N_STARTUP_TRIALS = 10
"""Random trials before a sampler learns from the earlier ones."""

N_PRUNING_STARTUP_TRIALS = 4
"""Earlier trials that a trial is compared with at least: the fifth may be the first to be pruned."""

CONFIDENCE = 0.95
"""Level of every interval."""

RESAMPLES = 10_000
"""Of a bootstrap, and permutations of a test."""

FAILED_RUNS = (
    "a failed run counts with the floor beside others that finished; an algorithm of which no test run on an "
    "environment finished, or of which this package broke one, is not ranked; an environment on which no algorithm has "
    "a score counts for none"
)
"""What becomes of runs that fail."""
