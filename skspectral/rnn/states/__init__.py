"""Run a module and read off its hidden states."""
