"""The tables that people see, folded from the log: rows and checkpoint in one SQL transaction.

One file for each projection (its tables, its fold, its queries): a new one is a new file here with
a subclass of `Projection`, found by itself. `runner` follows the log for all of them, `rebuild`
makes the next version of one beside the live one and swaps. SQLAlchemy and its drivers are used in
this folder only.
"""
