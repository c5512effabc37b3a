"""Distillation strategies: one file each, a Step under the one loop."""
