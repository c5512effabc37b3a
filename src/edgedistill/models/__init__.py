"""Teachers and students: where weights come from, and how small models are made from big ones.

Knows the token ids and tensors of a task, not how a model is trained, exported or measured.
"""
