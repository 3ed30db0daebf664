"""Sources of requests: arrival processes, and traces of real systems."""
