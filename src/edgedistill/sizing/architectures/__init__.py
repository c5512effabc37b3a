"""Architectures: the tensors of a checkpoint, named and shaped as its config.json implies."""
