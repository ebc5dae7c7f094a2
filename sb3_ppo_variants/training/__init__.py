"""The shared training loop, and what belongs to it: SB3's seams, checks of arguments, logs."""
