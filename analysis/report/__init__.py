"""The report of a study: one HTML file that opens offline, made from its records alone."""

from analysis.report.page import build_report, show_report, write_report

__all__ = ["build_report", "show_report", "write_report"]
