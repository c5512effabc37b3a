"""The one training loop, and the steps that run under it (`distill/`, `tune/`).

Knows models and tensors; not which task or candidate it trains, nor how the result is exported.
"""
