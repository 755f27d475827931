"""The playground: a Gradio page over the library ``calm``."""
