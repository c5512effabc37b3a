"""Texts in, fields out: token tags, spans, values, confidences, abstentions.

Needs numpy, tokenizers and onnxruntime alone.
"""
