"""The store of clusters: etcd, API v3 over gRPC."""

from coil.store.etcd.address import parse_address
from coil.store.etcd.client import EtcdClient
from coil.store.etcd.lookup import look_up
from coil.store.etcd.store import EtcdStore

__all__ = ["EtcdClient", "EtcdStore", "look_up", "parse_address"]
