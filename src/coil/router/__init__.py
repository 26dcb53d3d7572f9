"""coil-router: routes to other nodes' blocks on a flat layer-2 network, from the store's watch."""
