"""What compiled code is made of: the decorator, what numba lacks, and hashing in bulk."""
