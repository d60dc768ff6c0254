"""Sources and processors."""
