"""Passes that change a transformer's structure: one file each, and what they share."""
