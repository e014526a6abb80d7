"""What the outputs of a small network are judged by."""
