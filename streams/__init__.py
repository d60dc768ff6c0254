"""The log and all that stands on it: events, append and read, consumer groups, settings, logging.

Nothing here imports anything else of ours. `processors`, `projections` and `api` stand on this
package and meet each other only in the log.
"""
