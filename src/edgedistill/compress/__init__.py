"""Compression passes on exported ONNX files: one file each, and the order in which they are tried.

A pass says what it does to the bytes; whether it pays is measured elsewhere.
"""
