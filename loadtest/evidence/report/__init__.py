"""The report of a run of the evidence: one page for a browser, one table for the terminal. Measures nothing."""

from loadtest.evidence.report.page import page
from loadtest.evidence.report.summary import summary

__all__ = ["page", "summary"]
