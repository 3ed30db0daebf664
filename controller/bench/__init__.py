"""``edgelm bench``: what the twin, the solver and the agents take on this machine."""
