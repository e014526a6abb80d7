"""Forms of X, and how it is read; private."""
