"""Tests, folder by folder as the code lies; `servers.py` and `conftest.py` give them real servers."""
