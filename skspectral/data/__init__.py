"""Accepted forms of X and y, and how they are read; private."""
