"""Processes that do for us what may crash, hang or eat memory: started, spoken to, bounded, ended.

A program of theirs (`processors.media.child`, `processors.fetching.child`) answers with `answering.answer_all`;
`pool.Pool` asks them.
"""
