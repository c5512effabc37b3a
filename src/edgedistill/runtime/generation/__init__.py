"""Generation on a device: prompts framed as in training, a boundary, a checked answer."""
