"""Pruned modules in the formats of other runtimes; private."""
