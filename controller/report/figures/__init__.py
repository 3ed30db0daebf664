"""Figures of the report: one function each, from a study to a plate."""
