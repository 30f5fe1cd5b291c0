"""Ports that stay a service's own while it is away."""

import socket


def held_port(listen: str) -> tuple[str, socket.socket | None]:
    """Return an address with a free port for its port 0, and what holds that port.

    Between the death of a service and its next start, the kernel could give its port to any new
    connection of this machine, and the service could not listen there again. It does not do so with
    a port that a socket is bound to, even one that does not listen; a server may bind to it too.
    Another address comes back as it is, with nothing to hold.
    """
    host, _, port = listen.rpartition(":")
    if port != "0":
        return listen, None
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    holder = socket.socket(family, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind((host.strip("[]"), 0))
    return f"{host}:{holder.getsockname()[1]}", holder
