"""What NetworkPolicies let through, worked out as Kubernetes defines it; for pods, and networks outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, Final

from tests.support.manifests import Manifests, selects

HERE: Final = "realtime"


@dataclass(frozen=True, slots=True)
class Peer:
    """Somebody at one end: a pod in a namespace, or an address outside."""

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


def pod(name: str, namespace: str = HERE, **namespace_labels: str) -> Peer:
    """Return a pod by its name, in a namespace that may have labels of its own."""
    return Peer(
        {"app.kubernetes.io/name": name, "k8s-app": name},
        {"kubernetes.io/metadata.name": namespace, **namespace_labels},
    )


def passes(manifests: Manifests, source: Peer, target: Peer, port: int) -> bool:
    """Whether a connection may be made: both ends allow it, those that are ours."""
    policies = [it["spec"] for it in manifests.of("NetworkPolicy")]
    return _allows(policies, "Egress", source, target, port) and _allows(policies, "Ingress", target, source, port)


def _allows(policies: Sequence[Mapping[str, Any]], way: str, mine: Peer, other: Peer, port: int) -> bool:
    """Whether the end `mine` allows it; who is selected by no policy for that way is open."""
    if mine.namespace.get("kubernetes.io/metadata.name") != HERE:
        return True
    chosen = [it for it in policies if way in it["policyTypes"] and selects(it["podSelector"], mine.labels)]
    rules = [rule for it in chosen for rule in it.get(way.lower(), ())]
    side = "to" if way == "Egress" else "from"
    return not chosen or any(_ports(rule, port) and any(_concerns(rule, side, other)) for rule in rules)


def _ports(rule: Mapping[str, Any], port: int) -> bool:
    return any(it["port"] == port for it in rule["ports"])


def _concerns(rule: Mapping[str, Any], side: str, other: Peer) -> Iterator[bool]:
    for it in rule[side]:
        if "ipBlock" in it:
            yield bool(other.address) and ip_address(other.address) in ip_network(it["ipBlock"]["cidr"])
            continue
        names = it.get("namespaceSelector", {"matchLabels": {"kubernetes.io/metadata.name": HERE}})
        yield not other.address and selects(names, other.namespace) and selects(it.get("podSelector", {}), other.labels)
