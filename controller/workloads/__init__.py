"""Where requests come from: arrival processes, and traces of real systems."""
