"""Read models: tables folded from the log, one file each, and the runner that keeps them."""
