"""Figures. matplotlib is imported where something is drawn, never before."""
