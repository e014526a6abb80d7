"""Statistics of the hidden states on calibration sequences; private."""
