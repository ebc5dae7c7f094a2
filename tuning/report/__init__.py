"""What one looks at: progress and table on the terminal, report.html, dashboard."""
