"""`python -m clipcurate.rpc.probe ADDRESS [NAME]`: exit status 0 if the service there is healthy.

NAME is that of a service, or `liveness`; without it, the whole server's health counts.
For containers, which ask every few seconds: it imports gRPC and nothing else, not even the classes
of the messages. With CLIPCURATE_TLS_* it speaks TLS, which Kubernetes' own gRPC probes cannot.
"""

import os
import sys

import grpc

METHOD = "/grpc.health.v1.Health/Check"
SERVING = b"\x08\x01"
"""A HealthCheckResponse whose status is SERVING."""
SECONDS = 4.0


def ailment(address: str, name: str = "") -> str:
    """Return why `name` is not healthy at `address`; empty if it is."""
    request = b"\x0a" + bytes([len(name)]) + name.encode()  # HealthCheckRequest { service: name }
    with _channel(address) as channel:
        try:
            check = channel.unary_unary(METHOD, bytes, bytes)
            answer = check(request, timeout=SECONDS)
        except grpc.RpcError as error:
            return f"{address}: {error.code().name}: {error.details()}"
    return "" if answer == SERVING else f"{address}: not serving"


def _channel(address: str) -> grpc.Channel:
    options = [("grpc.enable_http_proxy", 0)]
    if not any(name.startswith("CLIPCURATE_TLS_") for name in os.environ):
        return grpc.insecure_channel(address, options)
    from clipcurate.rpc.security import channel_credentials, channel_files
    from clipcurate.rpc.settings import SecuritySettings

    files = channel_files(SecuritySettings())
    if files is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, channel_credentials(files.current()), options)


if __name__ == "__main__":
    sys.exit(ailment(sys.argv[1], *sys.argv[2:3]) or 0)
