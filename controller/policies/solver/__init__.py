"""SOLVER: the strong baseline that anyone would try before a language model.

The planner fits allocations and flows to the observed load once an epoch (``program.py``). Each
deployer picks, for its node's role and share of the load, the allocation with the fewest expected
requests in the system. The scheduler sends each request to the node with the earliest expected
completion, the delay that the request causes others included. It refuses a request whose expected
wait exceeds a share of the deadline that a stable system hardly ever reaches.
"""
