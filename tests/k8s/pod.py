"""Turns a pod template into what a kubelet would start: arguments, environment, files, probes.

Everything comes from the rendered manifests: what is checked and run is what a cluster would get.
"""

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from lint.references import MAKES, Catalogue, port_of
from manifests import name as object_name
from manifests import pods


@dataclass
class Container:
    """One container of one pod, ready to start."""

    name: str
    image: str
    command: list
    args: list
    env: dict
    # Path in the container to the folder on this machine that lies there, and whether it may be written to.
    mounts: dict = field(default_factory=dict)
    writable: set = field(default_factory=set)
    # Probe to (path, port).
    probes: dict = field(default_factory=dict)
    # The command of preStop, or the seconds that it sleeps.
    pre_stop: list = field(default_factory=list)
    pre_stop_sleep: int = 0
    # Seconds after which a container whose startupProbe still fails is started again.
    startup_limit: int = 0
    ports: dict = field(default_factory=dict)
    memory_limit: str = ""

    @property
    def is_penstock(self):
        return "/penstock" in self.image or self.image.startswith("penstock")

    def here(self, text):
        """`text`, with paths of the container put to where they lie on this machine."""
        for inside, outside in sorted(self.mounts.items(), key=lambda pair: -len(pair[0])):
            text = re.sub(rf"(?<![\w./-]){re.escape(inside)}(?=/|$|\b)", str(outside), text)
        return text


def ours(objects):
    """Pod templates of nodes and shards."""
    return [pod for pod in pods(objects) if "penstock.dev/pod" in (pod.owner["metadata"].get("labels") or {})]


def stateful(objects):
    """Pod templates of StatefulSets."""
    return [pod for pod in pods(objects) if pod.owner["kind"] == "StatefulSet"]


def made_secrets(binary, objects):
    """What the Job that makes keys makes, by the real binary: (kind, name) to a dict of file name to text. Fails where it
    is not what the Job's annotation promises."""
    made = {}
    for pod in pods(objects):
        if MAKES not in (pod.owner["metadata"].get("annotations") or {}):
            continue
        with tempfile.TemporaryDirectory() as folder:
            make, _ = containers(objects, pod, folder, ordinal=0)
            subprocess.run([binary, *map(make.here, make.args)], check=True, capture_output=True, text=True)
            (file,) = [make.here(arg) for arg in make.args if arg.startswith("/keys/")]
            items = json.loads(Path(file).read_text())["items"]
        made |= {(item["kind"], item["metadata"]["name"]): item.get("stringData") or item["data"] for item in items}
        promised = Catalogue([pod.owner]).keys
        assert set(made) == set(promised), f"{object_name(pod.owner)} makes {set(made)}, and promises {set(promised)}"
        for key, files in promised.items():
            assert not files - {""} or files == set(made[key]), f"{key} has {set(made[key])}, promised are {files}"
    return made


def pod_name(pod, ordinal):
    """The name that a StatefulSet gives."""
    return f"{pod.owner['metadata']['name']}-{ordinal}"


def containers(objects, pod, root, ordinal, secrets=None):
    """The containers of one pod. Files are written under `root`; `secrets` has the content of Secrets that a cluster would
    have: (kind, name) to a dict of file name to text."""
    by_name = {(o["kind"], o["metadata"]["name"]): o for o in objects}
    name = pod_name(pod, ordinal)
    folders, writable = {}, set()
    claims = pod.owner["spec"].get("volumeClaimTemplates") or []
    for volume in [*(pod.spec.get("volumes") or []), *({"name": c["metadata"]["name"]} for c in claims)]:
        folder = Path(root) / name / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        folders[volume["name"]] = folder
        sources = (volume.get("projected") or {}).get("sources") or [volume]
        held = False
        for source in sources:
            for kind, key in (("ConfigMap", "configMap"), ("Secret", "secret")):
                if key in source:
                    held = True
                    _fill(folder, by_name, secrets or {}, kind, source[key])
        if not held:
            writable.add(volume["name"])
    return [_container(c, name, ordinal, folders, writable) for c in pod.all_containers]


def _fill(folder, by_name, secrets, kind, ref):
    wanted = ref.get("name") or ref.get("secretName")
    data = (by_name.get((kind, wanted)) or {}).get("data") or secrets.get((kind, wanted)) or {}
    items = ref.get("items") or [{"key": key, "path": key} for key in data]
    for item in items:
        if item["key"] in data:
            (folder / item["path"]).write_text(data[item["key"]])


def _container(spec, name, ordinal, folders, writable):
    env = {}
    for variable in spec.get("env") or []:
        env[variable["name"]] = _value(variable, env, name, ordinal)
    hook = (spec.get("lifecycle") or {}).get("preStop") or {}
    startup = spec.get("startupProbe") or {}
    made = Container(
        name=spec["name"],
        image=spec["image"],
        command=[_expand(part, env) for part in spec.get("command") or []],
        args=[_expand(part, env) for part in spec.get("args") or []],
        env=env,
        pre_stop=(hook.get("exec") or {}).get("command") or [],
        pre_stop_sleep=(hook.get("sleep") or {}).get("seconds", 0),
        startup_limit=startup.get("periodSeconds", 10) * startup.get("failureThreshold", 3),
        ports={port["name"]: port["containerPort"] for port in spec.get("ports") or []},
        memory_limit=((spec.get("resources") or {}).get("limits") or {}).get("memory", ""),
    )
    for mount in spec.get("volumeMounts") or []:
        outside = folders[mount["name"]]
        if "subPathExpr" in mount or "subPath" in mount:
            outside = outside / _expand(mount.get("subPathExpr") or mount["subPath"], env)
        made.mounts[mount["mountPath"]] = outside
        if mount["name"] in writable:
            made.writable.add(mount["mountPath"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = (spec.get(probe) or {}).get("httpGet")
        if get:
            made.probes[probe] = (get["path"], port_of(spec, get["port"]))
    return made


def _value(variable, env, name, ordinal):
    if "value" in variable:
        return _expand(variable["value"], env)
    path = ((variable.get("valueFrom") or {}).get("fieldRef") or {}).get("fieldPath")
    fields = {
        "metadata.name": name,
        "metadata.labels['apps.kubernetes.io/pod-index']": str(ordinal),
    }
    return fields.get(path, "")


def _expand(text, env):
    """`$(NAME)`, as Kubernetes does it: of variables that stand before it, else it stays."""
    return re.sub(r"\$\(([A-Za-z_]\w*)\)", lambda m: env.get(m[1], m[0]), text)
