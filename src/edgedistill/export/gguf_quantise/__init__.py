"""Matrices in the block formats of ggml: the search for scales, super-blocks, bytes."""
