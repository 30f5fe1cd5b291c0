import socket
import struct
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from clipcurate.cli.ports import held_port

IP_LOCAL_PORT_RANGE = 51
"""Of Linux 6.3; not in Python 3.11's socket."""


def connect_from(port: int) -> None:
    """Connect to a listener from this port, as the kernel does when it picks one."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        try:
            only = struct.pack("I", port | port << 16)
            client.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, only)
        except OSError:
            pytest.skip("this kernel picks ports by itself")
        client.connect(listener.getsockname())
        assert client.getsockname()[1] == port


def test_no_connection_gets_a_port_that_is_held() -> None:
    address, holder = held_port("127.0.0.1:0")
    assert holder is not None
    port = int(address.rpartition(":")[2])
    with holder, pytest.raises(OSError, match="assign"):
        connect_from(port)
    connect_from(port)


def test_a_server_listens_on_a_port_that_is_held_again_and_again() -> None:
    address, holder = held_port("127.0.0.1:0")
    assert holder is not None
    with holder:
        for _ in range(2):
            server = grpc.server(ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
            assert server.add_insecure_port(address) == int(address.rpartition(":")[2])
            server.start()
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), 5).close()
            server.stop(0).wait()


def test_version_6_has_its_own() -> None:
    address, holder = held_port("[::1]:0")
    assert holder is not None
    with holder:
        assert holder.getsockname()[:2] == ("::1", int(address.removeprefix("[::1]:")))


def test_a_port_that_is_named_is_held_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        listen = f"127.0.0.1:{server.getsockname()[1]}"
        assert held_port(listen) == (listen, None)
    address, holder = held_port(listen)
    assert (address, holder is not None) == (listen, True)
    assert holder is not None
    holder.close()


def test_a_path_is_kept() -> None:
    assert held_port("unix:/tmp/a") == ("unix:/tmp/a", None)
