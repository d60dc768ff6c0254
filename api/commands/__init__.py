"""The commands of `spoolhouse`: a module each, named as the command in it; nothing to register."""
