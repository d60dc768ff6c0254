"""Local disk: safe names, receiving a file durably, sidecar manifests, free space.

Nothing in here knows the log. What is slow runs in this folder's own threads.
"""
