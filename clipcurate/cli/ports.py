"""Ports that stay a service's own while it is away."""

import socket


def held_port(listen: str) -> tuple[str, socket.socket | None]:
    """Return an address, with a free port for its port 0, and what holds the port.

    Between the death of a service and its next start, the kernel could give its port to any new
    connection of this machine, and the service could not listen there again. It does not do so with
    a port that a socket is bound to, even one that does not listen; a server may bind to it too.
    What cannot be held comes back as it is: a socket's path, or a port that somebody has, of which
    the service itself will tell.
    """
    host, _, port = listen.rpartition(":")
    if not port.isdecimal():
        return listen, None
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    holder = socket.socket(family, socket.SOCK_STREAM)
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind((host.strip("[]"), int(port)))
    except OSError:
        holder.close()
        return listen, None
    return f"{host}:{holder.getsockname()[1]}", holder
