"""The digital twin: a discrete-event model of the testbed in virtual time. Rules: docs/twin.md."""
