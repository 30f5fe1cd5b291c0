"""What network policies let through, as a plug-in that enforces them decides it."""

from collections.abc import Iterator

from tests.deploy.manifests import Object, Rendered, Workload, matches

Labels = dict[str, str]


def allowed(rendered: Rendered, source: Labels, target: Workload | Labels, port: int) -> bool:
    """Say whether a pod of the namespace may open a TCP connection to a port of another."""
    rules, names = _rules(rendered, source, "Egress"), _port_names(target)
    out = _any(rules, "to", labels_of(target), port, names)
    return out and admitted(rendered, source, target, port)


def admitted(rendered: Rendered, source: Labels, target: Workload | Labels, port: int) -> bool:
    """Say whether the target would take such a connection from a pod that may open any."""
    rules, names = _rules(rendered, labels_of(target), "Ingress"), _port_names(target)
    return _any(rules, "from", source, port, names)


def labels_of(pod: Workload | Labels) -> Labels:
    """Return the labels of a pod."""
    return pod.labels if isinstance(pod, Workload) else pod


def leaves(rendered: Rendered, source: Labels, port: int) -> bool:
    """Say whether a pod may open a TCP connection to that port of any address."""
    rules = _rules(rendered, source, "Egress")
    outward = [rule for rule in rules or [] if any("ipBlock" in peer for peer in rule["to"])]
    return any(_has_port(rule, port, {}) for rule in outward)


def _rules(rendered: Rendered, labels: Labels, direction: str) -> list[Object] | None:
    """Return the rules of one direction that a pod is under; None if it is free."""
    over = [
        policy["spec"]
        for policy in rendered.of("NetworkPolicy")
        if matches(policy["spec"]["podSelector"], labels)
        and direction in policy["spec"]["policyTypes"]
    ]
    return [rule for spec in over for rule in spec.get(direction.lower(), [])] if over else None


def _any(
    rules: list[Object] | None, side: str, labels: Labels, port: int, names: dict[str, int]
) -> bool:
    if rules is None:
        return True
    return any(
        _has_port(rule, port, names) and any(_is_peer(peer, labels) for peer in rule[side])
        for rule in rules
    )


def _is_peer(peer: Object, labels: Labels) -> bool:
    """Say whether a pod of the namespace is meant; a block of addresses may hold it."""
    if "ipBlock" in peer:
        return True
    return "namespaceSelector" not in peer and matches(peer["podSelector"], labels)


def _has_port(rule: Object, port: int, names: dict[str, int]) -> bool:
    return "ports" not in rule or port in set(_numbers(rule["ports"], names))


def _numbers(ports: list[Object], names: dict[str, int]) -> Iterator[int]:
    for one in ports:
        if one.get("protocol", "TCP") == "TCP":
            yield one["port"] if isinstance(one["port"], int) else names.get(one["port"], 0)


def _port_names(pod: Workload | Labels) -> dict[str, int]:
    ports = pod.container.get("ports", []) if isinstance(pod, Workload) else []
    return {port["name"]: port["containerPort"] for port in ports}
