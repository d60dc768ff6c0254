"""The commands of `spoolhouse`: a module each, with one click command or group; nothing to register."""
