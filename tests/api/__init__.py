"""The HTTP API and the command line, on real servers."""
