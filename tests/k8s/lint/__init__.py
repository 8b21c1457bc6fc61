"""Checks of Kubernetes objects that need no cluster.

    schema      each object against the published schemas of two Kubernetes versions, or our schema of its CRD
    references  objects against each other: selectors, volumes, ConfigMaps, Secrets, Services, ports, targets
    values      what a schema takes for a string or a number and an API server does not: quantities, names, bounds
    hardening   what this project promises of every pod: the restricted profile, probes, drains, no CPU limit

A finding has a kind, so that a test can say which error it planted, and that no other was found.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    kind: str
    where: str
    what: str

    def __str__(self):
        return f"{self.kind}: {self.where}: {self.what}"


def lint(text, schemas):
    """All findings in a stream of YAML documents, which must be complete: everything that it refers to is in it."""
    import yaml

    from lint import hardening, references, values
    from manifests import DuplicateKey, load

    try:
        objects = load(text)
    except DuplicateKey as error:
        return [Finding("duplicate-key", f"line {error.line}", str(error))]
    except yaml.YAMLError as error:
        return [Finding("yaml", "the stream", str(error))]
    found = schemas.check(objects)
    # The other checks rely on the shape that the schema promises.
    if found:
        return found
    return [*values.check(objects), *references.check(objects), *hardening.check(objects)]
