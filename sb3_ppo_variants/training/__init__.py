"""The shared training loop and its pure parts: minibatch, losses, divergences, controllers."""
