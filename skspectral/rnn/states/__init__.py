"""Run a module and collect the hidden states of its layers."""
