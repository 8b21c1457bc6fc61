"""Each object against its schema: strict, all errors, under two Kubernetes versions.

PyPI's kubernetes-validate stops at the first error and only warns where it has no schema. So its schema files are used
here directly, and an object without a schema is an error.
"""

import json
import re
from functools import cache
from pathlib import Path

import importlib_resources
import jsonschema
import yaml
from referencing import Registry, Resource

from lint import Finding
from manifests import name

# The oldest version in which all that k8s/ uses is stable (DRA's resource.k8s.io/v1 came with it), and the newest.
VERSIONS = ("1.34.0", "1.37.0")

# Our schemas of other projects' CRDs, a file for each API version: the fields that k8s/ uses, and no others.
CRDS = Path(__file__).resolve().parents[1] / "crds"

# jsonschema's validator to our kind of finding.
KINDS = {
    "additionalProperties": "unknown-field",
    "required": "missing-field",
    "type": "wrong-type",
    "oneOf": "wrong-type",
    "anyOf": "wrong-type",
}


class Schemas:
    """The schemas of VERSIONS and of CRDS."""

    def __init__(self):
        self.crds = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CRDS.glob("*.yaml"))}
        self.crds_used = set()

    @staticmethod
    @cache
    def _registry(version):
        file = Schemas._folder(version) / "_definitions.json"
        return Resource.from_contents(json.loads(file.read_text())) @ Registry()

    @staticmethod
    def _folder(version):
        root = importlib_resources.files("kubernetes_validate") / "kubernetes-json-schema"
        return root / f"v{version}-local-strict"

    @staticmethod
    @cache
    def _built_in(version, file):
        path = Schemas._folder(version) / file
        if not path.is_file():
            return None
        schema = Resource.from_contents(json.loads(path.read_text()))
        return jsonschema.Draft202012Validator(schema.contents, registry=schema @ Schemas._registry(version))

    def _validators(self, obj):
        """Pairs of a label and a validator, or None for it where the object has no schema there."""
        kind, api = obj["kind"].lower(), obj["apiVersion"]
        crds = self.crds.get(api.replace("/", "_"), {})
        if obj["kind"] in crds.get("$defs", {}):
            self.crds_used.add((api, obj["kind"]))
            schema = {"$ref": f"#/$defs/{obj['kind']}", **crds}
            return [("its CRD", jsonschema.Draft202012Validator(schema))]
        # rbac.authorization.k8s.io/v1 lies in role-rbac-v1.json.
        group_version = re.sub(r"^([^./]*)(?:[.][^/]*)?/", r"\1-", api)
        file = f"{kind}-{group_version}.json"
        return [(version, self._built_in(version, file)) for version in VERSIONS]

    def check(self, objects):
        """All findings."""
        found = []
        for obj in objects:
            where = name(obj)
            missing = [key for key in ("apiVersion", "kind", "metadata") if key not in obj]
            if missing:
                found.append(Finding("missing-field", where, f"it has no {missing[0]}"))
                continue
            validators = self._validators(obj)
            without = [version for version, validator in validators if validator is None]
            if without:
                what = f"Kubernetes {', '.join(without)} has no {obj['kind']} of {obj['apiVersion']}, nor have our CRDs"
                found.append(Finding("api-version", where, what))
                continue
            for version, validator in validators:
                found += [self._finding(where, version, error) for error in validator.iter_errors(obj)]
        # The two versions mostly say the same.
        unique = {(f.kind, f.where, f.what.split(" (")[0]): f for f in found}
        return list(unique.values())

    @staticmethod
    def _finding(where, version, error):
        # The branch that got furthest says what is wrong; "is not valid under any" says nothing.
        best = jsonschema.exceptions.best_match([error]) if error.context else error
        path = ".".join(str(part) for part in error.absolute_path)
        message = re.sub(r"^.{200,}?( is not| does not)", r"...\1", best.message)
        kind = KINDS.get(error.validator, "wrong-value")
        return Finding(kind, where, f"{path or 'the object'}: {message} ({version})")
