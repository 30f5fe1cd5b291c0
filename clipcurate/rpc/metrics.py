"""What every service shows to Prometheus: what it is, and the calls that it serves.

The catalogue of all metrics is docs/operations/metrics.md.
"""

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from clipcurate import __version__

BUILD = Gauge("clipcurate_build_info", "1; the labels say what runs here", ["version", "service"])
CALLS = Counter("clipcurate_grpc_calls_total", "Finished gRPC calls", ["method", "code"])
CALL_SECONDS = Histogram("clipcurate_grpc_call_seconds", "Duration of gRPC calls", ["method"])
CALLS_IN_FLIGHT = Gauge("clipcurate_grpc_calls_in_flight", "gRPC calls being served", ["method"])


def introduce(service: str) -> None:
    """Say what this process is. Without times of creation, which would double all series."""
    disable_created_metrics()  # type: ignore[no-untyped-call]
    BUILD.labels(__version__, service).set(1)
