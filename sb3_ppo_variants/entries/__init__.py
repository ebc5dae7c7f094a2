"""From a zoo entry to environment and model: what needs a class and a file name, and no registry."""
