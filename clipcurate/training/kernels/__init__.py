"""Compiled code of the loader."""
