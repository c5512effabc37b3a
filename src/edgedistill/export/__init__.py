"""Exporters: one file a format; each can run what it wrote. Independent of its siblings."""
