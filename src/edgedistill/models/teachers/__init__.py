"""Teachers: finding their weights safely, and putting a classifier on an encoder."""
