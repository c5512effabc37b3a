"""Matrices in the block formats of ggml: the scale search, the K-quants' super-blocks, the bytes."""
