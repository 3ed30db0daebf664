"""Node service: a state machine of a node's requests, and what it is fed with."""
