"""What one looks at: progress, table, report.html, dashboard."""
