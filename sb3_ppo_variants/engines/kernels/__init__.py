"""Kernels: the forward pass, its gradient and Adam of a plain MLP policy, below the array engine."""
