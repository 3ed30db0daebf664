"""HTTP server of one large model (LM): a front that answers, and a worker process that computes.

__main__.py    options
app.py         the running server, signals, the order of a shutdown
front.py       HTTP: requests, results, probes, token
views.py       answers about a request
metrics.py     metrics in Prometheus' text format
serving.py     queue of requests: deadlines, cancellation, the worker's restarts
checkpoint.py  accepted requests and recorded prompts on disk
worker.py      the front's end of the worker process, and the messages between both
computing.py   the worker process, which owns the engine
engines/       a class per kind of LM, and their table
messages.py    what a request looks like
threads.py     number of threads that the cgroup's CPU quota allows
"""
