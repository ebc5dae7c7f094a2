"""The engines: what collects rollouts and steps through minibatches for the loop, in PyTorch or on arrays."""
