"""Watched folders: what appears in them becomes events. No byte of a file is read, none is written.

`scanning` lists a root, `settling` says whether a file is complete, `comparing` decides what
happened (pure), `registering` appends it, `holds` asks a person before many files count as
removed, `noticing` hears of changes (watchfiles), `roots` brings them together.
"""
