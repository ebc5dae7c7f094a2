"""What to run next: tuning, pruning, tracks, one for all, proposals, trial log, coordinator."""
