"""Work on video files: signatures by our own eyes, everything else by PyAV in child processes.

Files are hostile until proven otherwise: PyAV is never imported by a process that matters. `probing`
and `studio` are what others use; `pool` and `children` are the processes below them; `child` is what
runs there, and `jobs` what it can do.
"""
