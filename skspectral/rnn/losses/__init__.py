"""Losses of the outputs of a small network; private."""
