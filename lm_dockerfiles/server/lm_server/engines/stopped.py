"""Signal of a batch that is not wanted any more."""


class Stopped(Exception):
    """The batch was stopped between two tokens, steps or slices."""
