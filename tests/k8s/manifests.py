"""Reads manifests: renders kustomizations, loads YAML without forgiving doubled keys, and finds what is in an object."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
K8S = REPOSITORY / "k8s"

# Kinds that hold a pod template, and where.
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job"}


class DuplicateKey(Exception):
    """A mapping names one key twice: the second would win silently."""

    def __init__(self, key, line):
        super().__init__(f"key {key!r} stands twice, the second time in line {line}")
        self.key, self.line = key, line


class StrictLoader(yaml.SafeLoader):
    """YAML where a key may stand once, and `=` is text (PyYAML would stumble over CRDs' enums)."""


def _mapping(loader, node, deep=False):
    seen = set()
    for key_node, _ in node.value:
        # What `<<` brings in may be said again.
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise DuplicateKey(key, key_node.start_mark.line + 1)
        seen.add(key)
    loader.flatten_mapping(node)
    return yaml.constructor.SafeConstructor.construct_mapping(loader, node, deep)


StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
StrictLoader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


def load(text):
    """The objects of a stream of YAML documents.

    Raises DuplicateKey, or yaml.YAMLError where it is no YAML.
    """
    return [doc for doc in yaml.load_all(text, Loader=StrictLoader) if doc]


def laid_over(below, components, made):
    """Writes a kustomization of `below` with components into the new folder `made`, and returns that."""
    made.mkdir()
    # kustomize takes relative paths alone.
    up = "../" * len(made.parts[1:])
    entries = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"{up}{below.relative_to('/')}"],
        "components": [f"{up}{component.relative_to('/')}" for component in components],
    }
    # What components bring must be in the same namespace as what it refers to.
    namespace = yaml.safe_load((below / "kustomization.yaml").read_text()).get("namespace")
    if namespace:
        entries["namespace"] = namespace
    (made / "kustomization.yaml").write_text(yaml.safe_dump(entries))
    return made


def render(kubectl, folder):
    """What `kubectl kustomize FOLDER` prints. Raises RuntimeError with kubectl's own words."""
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    return done.stdout


def name(obj):
    """`Kind/name` of an object, for a person."""
    return f"{obj.get('kind', '?')}/{(obj.get('metadata') or {}).get('name', '?')}"


@dataclass(frozen=True)
class Pod:
    """A pod template, and the object that makes pods of it."""

    owner: dict
    template: dict

    @property
    def name(self):
        return name(self.owner)

    @property
    def spec(self):
        return self.template.get("spec") or {}

    @property
    def labels(self):
        return (self.template.get("metadata") or {}).get("labels") or {}

    @property
    def containers(self):
        return self.spec.get("containers") or []

    @property
    def all_containers(self):
        return (self.spec.get("initContainers") or []) + self.containers


def pods(objects):
    """All pod templates of a set of objects."""
    for obj in objects:
        if obj.get("kind") in WORKLOADS:
            template = (obj.get("spec") or {}).get("template")
            if isinstance(template, dict):
                yield Pod(obj, template)


def selected(selector, labels):
    """Whether a label selector (matchLabels and matchExpressions) takes these labels. An empty one takes all."""
    for key, value in (selector.get("matchLabels") or {}).items():
        if labels.get(key) != value:
            return False
    for rule in selector.get("matchExpressions") or []:
        key, operator, values = rule["key"], rule["operator"], rule.get("values") or []
        held = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }[operator]
        if not held:
            return False
    return True
