"""What a set of NetworkPolicies lets through, as Kubernetes decides it: both ends have to agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.kubernetes.objects import Objects, selects


@dataclass(frozen=True)
class End:
    """Something that connects or is connected to: a kind of pod, with what its namespace is labelled; or an address."""

    name: str
    labels: Mapping[str, str]
    namespace: Mapping[str, str]
    ports: Mapping[str, int]
    policies: tuple[Mapping[str, Any], ...] | None
    cidr: str | None = None

    def __hash__(self) -> int:
        return hash(self.name)


OURS = {"kubernetes.io/metadata.name": "storefront"}


def inside(objects: Objects) -> list[End]:
    """Every kind of pod of the overlay, with the policies of its namespace."""
    policies = tuple(objects.of("NetworkPolicy"))
    return [End(pod.name, pod.labels, OURS, pod.ports, policies) for pod in objects.pods]


def stranger(name: str, *, namespace: str, labels: Mapping[str, str], of_namespace: Mapping[str, str]) -> End:
    """A pod of somebody else, which no policy of ours holds back."""
    return End(name, labels, {"kubernetes.io/metadata.name": namespace, **of_namespace}, {}, None)


def address(name: str, cidr: str) -> End:
    """Something outside the cluster."""
    return End(name, {}, {}, {}, None, cidr)


def allowed(source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Whether `source` may connect to this port of `target`."""
    return _agrees(source, target, port, protocol, way="egress", word="to", named=target.ports) and _agrees(
        target, source, port, protocol, way="ingress", word="from", named=target.ports
    )


def _agrees(one: End, other: End, port: int, protocol: str, *, way: str, word: str, named: Mapping[str, int]) -> bool:
    """Whether the policies that select `one` let this through; without any of this way, everything is."""
    if one.policies is None:
        return True
    holds = [
        policy["spec"]
        for policy in one.policies
        if selects(policy["spec"]["podSelector"], one.labels) and way.capitalize() in policy["spec"]["policyTypes"]
    ]
    if not holds:
        return True
    return any(_rule(rule, other, port, protocol, word, named) for spec in holds for rule in spec.get(way, ()))


def _rule(rule: Mapping[str, Any], other: End, port: int, protocol: str, word: str, named: Mapping[str, int]) -> bool:
    ports = rule.get("ports")
    if ports is not None and not any(
        each.get("protocol", "TCP") == protocol and named.get(each["port"], each["port"]) == port for each in ports
    ):
        return False
    peers: Iterable[Mapping[str, Any]] | None = rule.get(word)
    return peers is None or any(_peer(peer, other) for peer in peers)


def _peer(peer: Mapping[str, Any], other: End) -> bool:
    if "ipBlock" in peer:
        return bool(other.cidr == peer["ipBlock"]["cidr"])
    if other.cidr is not None:
        return False
    if "namespaceSelector" in peer:
        in_namespace = selects(peer["namespaceSelector"], other.namespace)
    else:
        in_namespace = other.namespace == OURS
    return in_namespace and selects(peer.get("podSelector", {}), other.labels)
