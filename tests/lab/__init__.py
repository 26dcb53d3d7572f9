"""Tests of the lab: a package, so that what its files share ends with the last of them."""
