"""The report: one self-contained ``report.html`` for a finished study."""

from .page import write_report

__all__ = ["write_report"]
