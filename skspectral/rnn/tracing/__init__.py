"""Tracing of hidden states through a forward pass, to what reads them; private."""
