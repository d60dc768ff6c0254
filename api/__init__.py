"""What people and their scripts talk to: HTTP, the command line, and the wiring (`bootstrap`)."""
