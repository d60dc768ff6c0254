"""The process behind `tests/drive_server.py`: the part of Google Drive v3 that copying videos needs, over HTTP."""
