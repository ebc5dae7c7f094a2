"""What the loop, its hooks and the engines hand to each other in one update."""
