"""Rows of a task: read, check, split, compare and augment them.

Everything here works on text and labels alone. It may not know models, training or the
runtime; torch, transformers and tokenizers are never imported (token counts come in through
a callable).
"""
