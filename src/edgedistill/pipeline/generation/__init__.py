"""The course of a generation task: the same stages, store, ledger and verdict; text comes out."""
