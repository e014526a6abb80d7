"""Hidden states of the layers of a module, read off while it runs; private."""
