"""Values that a schema passes and an API server refuses, or takes for something else."""

import ipaddress
import re

from lint import Finding
from manifests import name, pods

# A quantity as Kubernetes' resource package reads it.
QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(m|k|Ki|[MGTPE]i?|[eE][+-]?[0-9]+)?$")
UNITS = {
    None: 1, "m": 1e-3, "k": 1e3, "Ki": 2**10, "M": 1e6, "Mi": 2**20, "G": 1e9, "Gi": 2**30,
    "T": 1e12, "Ti": 2**40, "P": 1e15, "Pi": 2**50, "E": 1e18, "Ei": 2**60,
}  # fmt: skip

# IANA service names, which is what a port may be called: https://www.rfc-editor.org/rfc/rfc6335#section-5.1
PORT_NAME = re.compile(r"^(?=.{1,15}$)(?=.*[a-z])[a-z0-9](-?[a-z0-9])*$")
DNS_LABEL = re.compile(r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")


def quantity(text):
    """A quantity's value, or None where it is none."""
    match = QUANTITY.match(str(text))
    if not match:
        return None
    unit = match[2]
    if unit and unit[0] in "eE" and len(unit) > 1 and unit[1] != "i":
        return float(str(text))
    return float(match[1]) * UNITS[unit]


def check(objects):
    """All findings."""
    found = []

    def add(kind, obj, what):
        found.append(Finding(kind, obj if isinstance(obj, str) else name(obj), what))

    seen = set()
    for obj in objects:
        key = (obj["apiVersion"], obj["kind"], obj["metadata"].get("namespace"), obj["metadata"].get("name"))
        if key in seen:
            add("duplicate-object", obj, "it stands twice")
        seen.add(key)
        spec = obj.get("spec") or {}
        match obj["kind"]:
            case "PodDisruptionBudget":
                bounds = {"minAvailable", "maxUnavailable"} & spec.keys()
                if len(bounds) != 1:
                    add("bounds", obj, f"a budget has one of minAvailable and maxUnavailable, this one {len(bounds)}")
            case "HorizontalPodAutoscaler":
                _replicas(add, obj, spec.get("minReplicas", 1), spec["maxReplicas"])
            case "ScaledObject":
                _replicas(add, obj, spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100))
            case "NetworkPolicy":
                _network_policy(add, obj, spec)
            case "StatefulSet":
                for claim in spec.get("volumeClaimTemplates") or []:
                    _quantities(add, obj, claim["spec"].get("resources") or {})
            case "Service" if not DNS_LABEL.match(obj["metadata"]["name"]):
                add("name", obj, "a Service's name is a DNS label")
    for pod in pods(objects):
        _pod(add, pod)
    return found


def _replicas(add, obj, low, high):
    if low > high:
        add("bounds", obj, f"at least {low} and at most {high} replicas")


def _quantities(add, where, resources):
    values = {}
    for side in ("requests", "limits"):
        for resource, text in (resources.get(side) or {}).items():
            value = quantity(text)
            values[side, resource] = value
            if value is None:
                add("quantity", where, f"{side}.{resource} is {text!r}")
    for (side, resource), value in values.items():
        limit = values.get(("limits", resource))
        if side == "requests" and None not in (value, limit) and value > limit:
            add("bounds", where, f"it requests more {resource} than its limit allows")


def _pod(add, pod):
    grace = pod.spec.get("terminationGracePeriodSeconds", 30)
    if grace < 1:
        add("bounds", pod.name, "a grace period of 0 s is kill -9")
    for volume in pod.spec.get("volumes") or []:
        size = (volume.get("emptyDir") or {}).get("sizeLimit")
        if size is not None and quantity(size) is None:
            add("quantity", pod.name, f"volume {volume['name']} has sizeLimit {size!r}")
    names = [container["name"] for container in pod.all_containers]
    for twice in sorted({n for n in names if names.count(n) > 1}):
        add("name", pod.name, f"two containers are called {twice}")
    ports = {}
    for container in pod.all_containers:
        where = f"{pod.name} {container['name']}"
        _quantities(add, where, container.get("resources") or {})
        for port in container.get("ports") or []:
            label = port.get("name")
            if label is not None and not PORT_NAME.match(label):
                add("port-name", where, f"{label!r} is no name of a port: at most 15 of a-z, 0-9 and single hyphens")
            if label in ports:
                add("port-name", where, f"two ports are called {label}")
            ports[label] = port["containerPort"]
            if not 1 <= port["containerPort"] <= 65_535:
                add("bounds", where, f"port {port['containerPort']}")
        variables = [e["name"] for e in container.get("env") or []]
        for twice in sorted({v for v in variables if variables.count(v) > 1}):
            add("name", where, f"variable {twice} is set twice")


def _network_policy(add, obj, spec):
    for direction, peers_key in (("ingress", "from"), ("egress", "to")):
        rules = spec.get(direction)
        if rules is not None and direction.capitalize() not in (spec.get("policyTypes") or ["Ingress"]):
            add("network-policy", obj, f"it has {direction} rules, and policyTypes does not say so: they would do nothing")
        for rule in rules or []:
            for peer in rule.get(peers_key) or []:
                _peer(add, obj, peer)
            for port in rule.get("ports") or []:
                if isinstance(port.get("port"), str) and not PORT_NAME.match(port["port"]):
                    add("network-policy", obj, f"{port['port']!r} is no name of a port")
                if "endPort" in port and not (isinstance(port.get("port"), int) and port["endPort"] >= port["port"]):
                    add("network-policy", obj, f"endPort {port['endPort']} is below port {port.get('port')}")


def _peer(add, obj, peer):
    if not peer:
        add("network-policy", obj, "an empty peer is refused: leave the list out to mean everyone")
    block = peer.get("ipBlock")
    if block is None:
        return
    if len(peer) > 1:
        add("network-policy", obj, "a peer is an ipBlock or selectors, not both")
    try:
        network = ipaddress.ip_network(block["cidr"])
        for part in block.get("except") or []:
            if not ipaddress.ip_network(part).subnet_of(network):
                add("network-policy", obj, f"{part} is not in {network}")
    except (ValueError, TypeError) as error:
        add("network-policy", obj, str(error))
