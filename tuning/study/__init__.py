"""What is asked: study file, search space, scales, seeds, plan, costs, protocol."""
