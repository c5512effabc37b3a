"""Exporters: one file a format. Each can run what it wrote. Independent of compress and evaluate."""
