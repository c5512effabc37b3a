"""Kinds of task, one file each: how texts become token ids and outputs become answers."""
