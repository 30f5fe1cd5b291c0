"""The four processes. Each folder holds one service; none imports another."""

import os

# Before gRPC is imported: its core would write lines of its own kind between those of our logs.
# What it has to say comes with failed calls, too.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
