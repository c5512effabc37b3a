"""Generation on a device: a GGUF file in llama.cpp, checked before it is loaded.

Needs the extra `llm`; nothing else of the runtime does.
"""
