"""The maths as pure functions: losses, divergences, controllers, bounds on the ratio."""
