"""Objects against each other: what one names, another must be, and be what it is taken for."""

import re

from lint import Finding
from manifests import name, pods, selected

# A Job with this annotation makes the Secrets and ConfigMaps that it lists, with the keys after the colon:
# `Secret/penstock-keys: gateway.seed, mempool.seed; ConfigMap/nats-users: users.conf`.
MAKES = "penstock.dev/makes"


class Catalogue:
    """The objects, by kind and name, and what Jobs will make."""

    def __init__(self, objects):
        self.objects = objects
        self.pods = list(pods(objects))
        self.by_name = {(o["kind"], o["metadata"]["name"]): o for o in objects}
        # (kind, name) to the keys of a ConfigMap or Secret.
        self.keys = {
            (o["kind"], o["metadata"]["name"]): {*(o.get("data") or {}), *(o.get("stringData") or {})}
            for o in objects
            if o["kind"] in ("ConfigMap", "Secret")
        }
        for obj in objects:
            for part in filter(None, (obj["metadata"].get("annotations") or {}).get(MAKES, "").split(";")):
                made, _, keys = part.partition(":")
                kind, _, made = made.strip().partition("/")
                self.keys[kind, made] = {key.strip() for key in keys.split(",")}
            # cert-manager writes the Secret that a Certificate names.
            if obj["kind"] == "Certificate":
                self.keys["Secret", obj["spec"]["secretName"]] = {"ca.crt", "tls.crt", "tls.key"}


def check(objects):
    """All findings."""
    found = []

    def add(kind, where, what):
        found.append(Finding(kind, where if isinstance(where, str) else name(where), what))

    catalogue = Catalogue(objects)
    for pod in catalogue.pods:
        _owner(add, catalogue, pod)
        _volumes(add, catalogue, pod)
        _environment(add, catalogue, pod)
        _ports(add, pod)
        _constraints(add, pod)
    for obj in objects:
        check_of = {
            "Service": _service,
            "PodDisruptionBudget": _budget,
            "NetworkPolicy": _policy,
            "HorizontalPodAutoscaler": _scaler,
            "ScaledObject": _scaler,
            "RoleBinding": _binding,
            "ServiceMonitor": _monitor,
            "Workflow": _workflow,
        }.get(obj["kind"])
        if check_of:
            check_of(add, catalogue, obj)
    targets = [_target(o) for o in objects if o["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")]
    for kind, twice in sorted({t for t in targets if targets.count(t) > 1}):
        add("target", f"{kind}/{twice}", "two autoscalers pull at it")
    return found


def _owner(add, catalogue, pod):
    spec = pod.owner["spec"]
    if pod.owner["kind"] != "Job" and not (spec["selector"] and selected(spec["selector"], pod.labels)):
        add("selector", pod.owner, "its selector does not take the labels of its own pods")
    if pod.owner["kind"] == "StatefulSet":
        service = catalogue.by_name.get(("Service", spec.get("serviceName")))
        if service is None:
            add("service", pod.owner, f"serviceName {spec.get('serviceName')!r} is no Service")
        elif service["spec"].get("clusterIP") != "None":
            add("service", pod.owner, f"Service {spec['serviceName']} is not headless: pods would have no names")
    account = pod.spec.get("serviceAccountName")
    if account and ("ServiceAccount", account) not in catalogue.by_name:
        add("reference", pod.owner, f"there is no ServiceAccount {account}")


def _keys(add, catalogue, where, kind, ref, label="name"):
    """The keys of a ConfigMap or Secret that `ref` names; None where there is none, which is a finding."""
    keys = catalogue.keys.get((kind, ref[label]))
    if keys is None and not ref.get("optional"):
        add("reference", where, f"there is no {kind} {ref[label]}")
    return keys


def _items(add, where, ref, kind, named, keys):
    for item in ref.get("items") or []:
        if keys is not None and item["key"] not in keys:
            add("reference", where, f"{kind} {named} has no key {item['key']}")


def _volumes(add, catalogue, pod):
    claims = [c["metadata"]["name"] for c in pod.owner["spec"].get("volumeClaimTemplates") or []]
    volumes = [v["name"] for v in pod.spec.get("volumes") or []] + claims
    for twice in sorted({v for v in volumes if volumes.count(v) > 1}):
        add("volume", pod.owner, f"two volumes are called {twice}")
    mounted = set()
    for container in pod.all_containers:
        paths = [m["mountPath"] for m in container.get("volumeMounts") or []]
        for mount in container.get("volumeMounts") or []:
            mounted.add(mount["name"])
            if mount["name"] not in volumes:
                add("volume", f"{pod.name} {container['name']}", f"it mounts {mount['name']}, which is no volume")
        for twice in sorted({p for p in paths if paths.count(p) > 1}):
            add("volume", f"{pod.name} {container['name']}", f"two mounts lie at {twice}")
    for unused in sorted(set(volumes) - mounted):
        add("volume", pod.owner, f"volume {unused} is mounted nowhere")
    for volume in pod.spec.get("volumes") or []:
        sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
        for source in sources:
            if "configMap" in source:
                keys = _keys(add, catalogue, pod.owner, "ConfigMap", source["configMap"])
                _items(add, pod.owner, source["configMap"], "ConfigMap", source["configMap"]["name"], keys)
            if "secret" in source:
                label = "secretName" if "secretName" in source["secret"] else "name"
                keys = _keys(add, catalogue, pod.owner, "Secret", source["secret"], label)
                _items(add, pod.owner, source["secret"], "Secret", source["secret"][label], keys)
    declared = {c["name"] for c in pod.spec.get("resourceClaims") or []}
    used = {
        c["name"] for container in pod.containers for c in (container.get("resources") or {}).get("claims") or []
    }
    if declared != used:
        add("reference", pod.owner, f"resource claims declared {sorted(declared)}, used {sorted(used)}")
    for claim in pod.spec.get("resourceClaims") or []:
        template = claim.get("resourceClaimTemplateName")
        if template and ("ResourceClaimTemplate", template) not in catalogue.by_name:
            add("reference", pod.owner, f"there is no ResourceClaimTemplate {template}")


def _environment(add, catalogue, pod):
    for container in pod.all_containers:
        where = f"{pod.name} {container['name']}"
        refs, known = [], set()
        for variable in container.get("env") or []:
            # $(NAME) of a variable that stands later, or nowhere, stays as it is.
            for used in re.findall(r"\$\((\w+)\)", variable.get("value", "")):
                if used not in known:
                    add("reference", where, f"{variable['name']} uses $({used}), which stands later or nowhere")
            known.add(variable["name"])
        for mount in container.get("volumeMounts") or []:
            for used in re.findall(r"\$\((\w+)\)", mount.get("subPathExpr", "")):
                if used not in known:
                    add("reference", where, f"a mount uses $({used}), which is no variable")
        for source in container.get("envFrom") or []:
            for kind, field in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                if field in source:
                    _keys(add, catalogue, where, kind, source[field])
        for variable in container.get("env") or []:
            for kind, field in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
                ref = (variable.get("valueFrom") or {}).get(field)
                if ref:
                    refs.append((kind, ref))
        for kind, ref in refs:
            keys = _keys(add, catalogue, where, kind, ref)
            if keys is not None and ref["key"] not in keys:
                add("reference", where, f"{kind} {ref['name']} has no key {ref['key']}")


def port_of(container, port):
    """The number of a port that is given by number or name, or None where the container does not declare it."""
    for declared in container.get("ports") or []:
        if port in (declared.get("name"), declared["containerPort"]):
            return declared["containerPort"]
    return None


def _ports(add, pod):
    for container in pod.containers:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            for action in ("httpGet", "tcpSocket", "grpc"):
                port = ((container.get(probe) or {}).get(action) or {}).get("port")
                if port is not None and port_of(container, port) is None:
                    add("probe", f"{pod.name} {container['name']}", f"{probe} asks port {port}, which it does not have")


def _constraints(add, pod):
    for constraint in pod.spec.get("topologySpreadConstraints") or []:
        selector = constraint.get("labelSelector") or {}
        if not selected(selector, pod.labels):
            add("selector", pod.owner, f"its spread over {constraint['topologyKey']} does not count its own pods")
        both = set(constraint.get("matchLabelKeys") or []) & set(selector.get("matchLabels") or {})
        if both:
            add("selector", pod.owner, f"{sorted(both)} may stand in matchLabelKeys or in labelSelector, not in both")


def _taken(catalogue, selector):
    return [pod for pod in catalogue.pods if selected(selector, pod.labels)]


def _service(add, catalogue, obj):
    if "selector" not in obj["spec"]:
        return
    taken = _taken(catalogue, {"matchLabels": obj["spec"]["selector"]})
    if not taken:
        add("selector", obj, "it selects no pod")
    for port in obj["spec"].get("ports") or []:
        target = port.get("targetPort", port["port"])
        for pod in taken:
            if not any(port_of(c, target) for c in pod.containers):
                add("service", obj, f"its port {port['port']} goes to {target}, which {pod.name} does not have")


def _budget(add, catalogue, obj):
    taken = _taken(catalogue, obj["spec"]["selector"])
    if len(taken) != 1:
        add("selector", obj, f"it takes the pods of {len(taken)} workloads: a budget is for one")


def _policy(add, catalogue, obj):
    chosen = obj["spec"].get("podSelector") or {}
    taken = _taken(catalogue, chosen)
    if chosen and not taken:
        add("selector", obj, "it selects no pod")
    for rule in obj["spec"].get("ingress") or []:
        for peer in rule.get("from") or []:
            if "podSelector" in peer and "namespaceSelector" not in peer and not _taken(catalogue, peer["podSelector"]):
                add("selector", obj, f"a peer is no pod: {peer['podSelector']}")
        for port in rule.get("ports") or []:
            for pod in taken:
                if not any(port_of(c, port["port"]) for c in pod.containers):
                    add("network-policy", obj, f"it opens port {port['port']}, which {pod.name} does not have")


def _target(obj):
    target = obj["spec"]["scaleTargetRef"]
    return target.get("kind", "Deployment"), target["name"]


def _scaler(add, catalogue, obj):
    if _target(obj) not in catalogue.by_name:
        add("target", obj, f"there is no {'/'.join(_target(obj))}")


def _binding(add, catalogue, obj):
    ref = obj["roleRef"]
    if ref["kind"] == "Role" and ("Role", ref["name"]) not in catalogue.by_name:
        add("reference", obj, f"there is no Role {ref['name']}")
    for subject in obj.get("subjects") or []:
        if subject["kind"] == "ServiceAccount" and ("ServiceAccount", subject["name"]) not in catalogue.by_name:
            add("reference", obj, f"there is no ServiceAccount {subject['name']}")


def _monitor(add, catalogue, obj):
    services = [
        o
        for o in catalogue.objects
        if o["kind"] == "Service" and selected(obj["spec"]["selector"], o["metadata"].get("labels") or {})
    ]
    if not services:
        add("selector", obj, "it selects no Service")
    for endpoint in obj["spec"]["endpoints"]:
        for service in services:
            if endpoint["port"] not in [p.get("name") for p in service["spec"].get("ports") or []]:
                add("service", obj, f"Service {service['metadata']['name']} has no port called {endpoint['port']}")


def _workflow(add, catalogue, obj):
    templates = {template["name"]: template for template in obj["spec"]["templates"]}
    if len(templates) < len(obj["spec"]["templates"]):
        add("name", obj, "two templates have one name")
    reached, todo = set(), [obj["spec"]["entry"]]
    while todo:
        part = todo.pop()
        if part not in templates:
            add("reference", obj, f"there is no template {part}")
        elif part not in reached:
            reached.add(part)
            todo += templates[part].get("children") or []
    for unused in sorted(set(templates) - reached):
        add("reference", obj, f"template {unused} is never run")
    for template in templates.values():
        kind = template["templateType"]
        chaos = template.get(kind[0].lower() + kind[1:] if not kind.startswith("IO") else "ioChaos")
        for side in filter(None, (chaos, (chaos or {}).get("target"))):
            taken = _taken(catalogue, {"matchLabels": side["selector"].get("labelSelectors") or {}})
            if not taken:
                add("selector", obj, f"{template['name']} selects no pod")
            paths = {m["mountPath"] for p in taken for c in p.containers for m in c.get("volumeMounts") or []}
            if "volumePath" in side and side["volumePath"] not in paths:
                add("volume", obj, f"{template['name']}: nothing is mounted at {side['volumePath']}")
