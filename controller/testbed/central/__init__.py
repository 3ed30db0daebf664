"""The controller of a testbed: the central loop and its HTTP API."""
