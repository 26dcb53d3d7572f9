"""The store of clusters: etcd, API v3 over gRPC."""

from coil.store.etcd.address import parse_address
from coil.store.etcd.store import EtcdStore

__all__ = ["EtcdStore", "parse_address"]
