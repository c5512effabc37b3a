"""The device side: opens a bundle, checks it, and answers, with its boundary applied.

Needs numpy, tokenizers and onnxruntime only. May not know torch, the task file's models
(pydantic, YAML), or anything of the factory but the errors, files and catalogues of `core`.
"""
