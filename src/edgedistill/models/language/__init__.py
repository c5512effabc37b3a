"""Small causal language models: their shape, their tokenizer, and students cut out of them."""
