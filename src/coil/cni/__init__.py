"""The CNI wire contract: what a runtime may send and what it must get back. Pure.

Specification: https://www.cni.dev/docs/spec/ (1.1.0, and its predecessors back to 0.3.0).
"""
