"""The NumPy engine: fast rollouts and updates for plain MLP policies on the CPU."""
