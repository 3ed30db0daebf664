"""A campaign's report: one page without network, its figures and tables as files."""

from controller.report.page import write_report

__all__ = ["write_report"]
