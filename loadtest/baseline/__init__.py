"""Peers: what others would write for the same job, kept honest so that a ratio against them means something."""
