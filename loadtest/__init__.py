"""Load tests: what the figures in the README stand on."""
