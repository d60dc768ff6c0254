"""What `scripts/generate_api_docs` writes, one module for each kind of document."""
