"""The four processes. Each folder holds one service; none imports another."""
