"""What a selection minimizes: the problem, the losses, and the reconstruction."""
