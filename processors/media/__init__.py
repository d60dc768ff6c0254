"""Looking into video files: signatures by our own eyes, everything else by PyAV in child processes.

Files are hostile until proven otherwise: PyAV is never imported by a process that matters.
"""
