"""What to run next: tracks, one for all, proposals, pruning, trial log, coordinator."""
