"""What this project promises of every pod.

The security part is the "restricted" profile of the Pod Security Standards, and more: a read-only root file system, no
token of a service account unless the pod talks to Kubernetes, a memory limit and no CPU limit.
"""

from lint import Finding
from manifests import pods

# A pod that talks to Kubernetes, and so has a token, says why in this annotation.
TOKEN_REASON = "penstock.dev/token-reason"


def check(objects):
    """All findings."""
    found = []

    def add(where, what):
        found.append(Finding("hardening", where, what))

    for pod in pods(objects):
        _security(add, pod)
        for container in pod.containers:
            where = f"{pod.name} {container['name']}"
            _resources(add, where, container)
            if pod.owner["kind"] != "Job":
                _probes(add, where, container)
    return found


def _security(add, pod):
    spec = pod.spec
    context = spec.get("securityContext") or {}
    if context.get("runAsNonRoot") is not True:
        add(pod.name, "it may run as root")
    if (context.get("seccompProfile") or {}).get("type") != "RuntimeDefault":
        add(pod.name, "it has no seccomp profile")
    annotations = (pod.template.get("metadata") or {}).get("annotations") or {}
    if spec.get("automountServiceAccountToken") is not False and TOKEN_REASON not in annotations:
        add(pod.name, "it has a token of its service account, and no reason")
    for forbidden in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(forbidden):
            add(pod.name, f"it has {forbidden}")
    for volume in spec.get("volumes") or []:
        if "hostPath" in volume:
            add(pod.name, f"volume {volume['name']} is a path of the host")
    for container in pod.all_containers:
        where = f"{pod.name} {container['name']}"
        context = container.get("securityContext") or {}
        if context.get("allowPrivilegeEscalation") is not False:
            add(where, "it may gain privileges")
        if context.get("readOnlyRootFilesystem") is not True:
            add(where, "it may write to its root file system")
        if (context.get("capabilities") or {}).get("drop") != ["ALL"]:
            add(where, "it keeps capabilities")
        if context.get("privileged"):
            add(where, "it is privileged")


def _resources(add, where, container):
    resources = container.get("resources") or {}
    for need in ("cpu", "memory"):
        if need not in (resources.get("requests") or {}):
            add(where, f"it requests no {need}")
    limits = resources.get("limits") or {}
    if "memory" not in limits:
        add(where, "it has no memory limit")
    if "cpu" in limits:
        add(where, "it has a CPU limit: it would be throttled while the node idles")


def _probes(add, where, container):
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if probe not in container:
            add(where, f"it has no {probe}")
    if "preStop" not in (container.get("lifecycle") or {}):
        add(where, "it has no preStop: it would be cut off instead of drained")
    path = ((container.get("livenessProbe") or {}).get("httpGet") or {}).get("path", "")
    # A probe that asks about peers restarts a healthy process during a partition, and the partition never heals.
    if path and path not in ("/health/live", "/healthz?js-enabled-only=true"):
        add(where, f"its livenessProbe asks {path}, which may depend on peers")
