"""The parts of `scripts/bench`. Each measures one promise about speed beside a peer, in one run.

A part is a module with `run(size)`, which starts the servers it needs, measures ours and the peer
in turns, and gives `Row`s back. Only ratios are judged: the machine may be busy with other things.
"""
