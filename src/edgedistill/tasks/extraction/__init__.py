"""Extraction: texts with spans as tags of tokens."""
