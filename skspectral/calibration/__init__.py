"""From sequences to statistics of the hidden states; private."""
