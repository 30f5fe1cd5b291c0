"""The `clipcurate` command."""
