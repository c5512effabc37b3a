"""Sizes by arithmetic: of a model's config.json alone, what it takes on disk and in memory."""
