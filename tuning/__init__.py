"""The Optuna harness: tunes the algorithms, then ranks them on held-out seeds."""
