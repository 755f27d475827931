"""One module per tab: its layout, texts and event handlers."""
