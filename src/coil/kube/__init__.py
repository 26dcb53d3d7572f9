"""Asks the API server of the Kubernetes cluster this program runs in."""
