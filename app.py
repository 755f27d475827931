"""Starts the playground: ``python app.py``. Also the entry point on Hugging Face Spaces."""

if __name__ == "__main__":  # the subprocess of a UMAP fit imports this file and needs nothing of the page
    from app.start import main

    main()
