"""Generation on a device: prompts framed as in training, a boundary, a checked answer.

A GGUF file runs in llama.cpp, checked before it is loaded. Needs the extra `llm`; nothing else
of the runtime does.
"""
