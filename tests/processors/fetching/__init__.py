"""Downloads: where they may go, and what they bring."""
