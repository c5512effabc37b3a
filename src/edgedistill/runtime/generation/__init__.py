"""Generation on a device: prompts framed as in training, a boundary, a checked answer.

A GGUF file runs in llama.cpp, checked before it is loaded, which needs the extra `llm`. An ONNX
file runs in ONNX Runtime; of the extra, only answers by a schema are in need.
"""
