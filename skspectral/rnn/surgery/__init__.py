"""Build the smaller module and compare it with the given module."""
