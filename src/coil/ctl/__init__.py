"""coilctl: the operator's hand. Pools and blocks through the store, this node through coild."""
