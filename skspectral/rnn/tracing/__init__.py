"""Follow hidden states through a forward pass, to what reads them."""
