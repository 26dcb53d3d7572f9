"""The store: which node owns which block. One contract, several stores."""
