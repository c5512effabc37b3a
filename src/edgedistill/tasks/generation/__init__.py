"""Generation: conversation -> text, written by a small causal language model."""
