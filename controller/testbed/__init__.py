"""The real testbed behind the ports."""
