"""One file per variant: what limits the step, and nothing else."""
