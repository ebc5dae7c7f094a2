"""Registered hyperparameters: one YAML file per algorithm id, in rl-zoo's format."""
