"""The selection problem: losses, reconstruction, and the problem itself."""
