"""The testbed's nodes and pods on a Kubernetes cluster."""
