"""What is said about the algorithms: metrics, statistics, results, the files that hold them, export."""
