"""Readers of YAML files into domain objects: the only place that validates untrusted files."""
