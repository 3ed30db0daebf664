"""SOLVER: the strong baseline that anyone would try before a language model.

The planner fits allocations and flows to the observed load once an epoch (``program.py``). Each
deployer picks, for the role and the share of the load that the policy gives its node, the
allocation with the fewest requests to be expected in the system. The scheduler sends each request
where it is expected to be done first, counting what it holds up there, and refuses it at the door
if it would wait there for a share of the deadline that a stable system hardly ever shows.
"""
