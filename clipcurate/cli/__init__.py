"""The `clipcurate` command."""

import os

# The command starts processes by fork and exec only; gRPC's fork handlers would merely complain.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
