"""`make evidence`: each figure that the source documents claim, before and after, on this machine, with a verdict."""
