"""Building of the smaller module, and its comparison with the given one; private."""
