"""What is said: metrics, statistics, results and their wording, the files that hold them, export."""
