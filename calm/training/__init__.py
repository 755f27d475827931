"""Training of the tokenizer, the autoencoder, the next-vector model and the token-by-token baseline."""
