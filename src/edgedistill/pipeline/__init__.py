"""From a task file to a verified bundle: forecast, stages, search, verdict, packaging.

The only room that sees every method; nothing below knows it.
"""
