"""A data centre in memory, on the real allocator and the real claim code."""
