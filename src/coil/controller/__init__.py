"""coil-controller: takes back blocks of nodes that are gone, audits the store, counts blocks."""
