"""LM pods on a Kubernetes cluster, and the cluster as the controller sees it."""
