"""The course of an extraction task: texts with spans in, a bundle that fills records out."""
