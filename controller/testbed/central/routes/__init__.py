"""The controller's HTTP routes, a file per kind of caller."""
