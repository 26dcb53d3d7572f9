"""A data centre on one machine: spines, ToRs, nodes and etcd, each a network namespace.

``plan`` says what there is, pure; ``lab`` makes it, from the parts beside it; ``observe`` tells
what became of it. What is up and what is broken is never remembered: the kernel is asked.
"""
