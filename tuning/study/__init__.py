"""What is asked: study file, rules, scales, seeds, plan, costs, protocol."""
