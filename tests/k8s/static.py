"""Everything in k8s/ that can be checked without a cluster.

    python static.py --kubectl KUBECTL [--penstock BINARY]
"""

import argparse
import json
import re
import subprocess
import tempfile
import tomllib
from pathlib import Path

import yaml

import harness
import pod as running
from harness import check, equal
from lint import lint
from lint.schema import Schemas
from manifests import K8S, REPOSITORY, laid_over, load, name, pods, render

HERE = Path(__file__).resolve().parent
OVERLAYS = sorted(path.parent.relative_to(K8S) for path in K8S.glob("overlays/*/kustomization.yaml"))
COMPONENTS = sorted(path.parent.relative_to(K8S) for path in K8S.glob("components/*/kustomization.yaml"))

# An overlay that is laid on another one that runs: it is checked together with it.
LAID_ON = {"overlays/chaos": "overlays/testnet"}

# A metric in an expression of PromQL: a name that no bracket follows, outside of braces and quotes.
PROMQL_WORDS = {"by", "without", "or", "and", "unless", "on", "ignoring", "group_left", "group_right", "offset", "bool"}
# Prometheus's own.
PROMETHEUS_METRICS = {"up"}


def kustomization_of(folder, scratch):
    """A folder to render: an overlay itself, or the base with one component."""
    if str(folder).startswith("overlays/"):
        return K8S / folder
    return laid_over(K8S / "base", [K8S / folder], scratch / str(folder).replace("/", "-"))


class Rendered:
    """All overlays, and the base with each component, rendered once."""

    def __init__(self, kubectl, scratch):
        self.texts = {}
        for folder in [*OVERLAYS, *COMPONENTS]:
            self.texts[str(folder)] = render(kubectl, kustomization_of(folder, scratch))

    def whole(self, folder):
        """With what it is laid on, so that every reference has its object."""
        below = LAID_ON.get(folder)
        return self.texts[folder] if below is None else f"{self.texts[below]}\n---\n{self.texts[folder]}"

    def objects(self, folder):
        return load(self.whole(folder))


def passes_lint(text, schemas):
    found = lint(text, schemas)
    assert not found, "\n".join(str(finding) for finding in found)


def is_caught(good, error, schemas):
    equal(good.count(error["old"]), 1, "the text to replace stands once in good.yaml")
    found = lint(good.replace(error["old"], error["new"]), schemas)
    equal([finding.kind for finding in found], [error["finds"]], "\n".join(str(finding) for finding in found))


def every_file_in_k8s_is_used(rendered):
    """A resource, patch or generator file that no kustomization names is dead."""
    named = set()
    for file in K8S.rglob("kustomization.yaml"):
        text = file.read_text()
        for other in file.parent.rglob("*"):
            if other.is_file() and str(other.relative_to(file.parent)) in text:
                named.add(other)
    # adapter-rule.yaml goes into another chart's values; pages are for people.
    files = {f for f in K8S.rglob("*") if f.is_file() and f.suffix != ".md"}
    unused = {f for f in files - named if f.name not in ("kustomization.yaml", "adapter-rule.yaml")}
    equal(sorted(str(f.relative_to(K8S)) for f in unused), [])


def images_have_a_version(rendered):
    for folder in rendered.texts:
        for pod in pods(rendered.objects(folder)):
            for container in pod.all_containers:
                tag = container["image"].rpartition(":")[2]
                assert re.search(r"\d", tag) and "/" not in tag, f"{folder}: {container['image']} floats"


def the_version_is_the_workspaces(rendered):
    workspace = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    tags = {
        container["image"].rpartition(":")[2]
        for folder in rendered.texts
        for pod in pods(rendered.objects(folder))
        for container in pod.all_containers
        if "penstock" in container["image"]
    }
    equal(tags, {workspace})
    assert f"ARG VERSION={workspace}" in (REPOSITORY / "Dockerfile").read_text(), "the Dockerfile has another version"


def nothing_secret_is_in_the_repository(rendered):
    for folder in rendered.texts:
        for obj in rendered.objects(folder):
            assert obj["kind"] != "Secret", f"{folder}: {name(obj)} is a Secret with its content in the repository"
    for file in K8S.rglob("*"):
        if file.is_file():
            text = file.read_text()
            # An nkey seed, and a private key.
            assert not re.search(r"\bS[UANO][A-Z2-7]{56}\b|PRIVATE KEY", text), f"{file} has a secret"


def metrics_of(expression):
    """Names of metrics in a PromQL expression."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]', " ", expression)
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", " ", bare)
    words = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?!\w*\s*\()", bare)
    return {w for w in words if w not in PROMQL_WORDS and not re.fullmatch(rf"{w}\s*\(", w) and f"{w}(" not in bare}


def exported_metrics():
    """Names that our sources record, with the names under which Prometheus sees them."""
    names = {}
    for folder in ("actors", "shaders", "devnet"):
        for file in (REPOSITORY / folder).rglob("*.rs"):
            for kind, metric in re.findall(r'\b(counter|gauge|histogram)!\(\s*"([a-z0-9_]+)"', file.read_text()):
                names[metric] = kind
    seen = set(names) | {f"{n}{s}" for n, k in names.items() if k == "histogram" for s in ("_sum", "_count")}
    assert len(names) > 10, f"the sources record metrics: {names}"
    return seen


def expressions():
    """Pairs of a place and a PromQL expression, in rules, dashboards and autoscalers."""
    monitoring = K8S / "components/monitoring"
    for rule in load((monitoring / "rules.yaml").read_text()):
        for group in rule["spec"]["groups"]:
            for alert in group["rules"]:
                yield alert.get("alert", alert.get("record")), alert["expr"]
    for file in sorted(monitoring.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                yield f"{file.name}: {panel['title']}", target["expr"]
    for scaled in load((K8S / "components/keda/shard-scaled-object.yaml").read_text()):
        for trigger in scaled["spec"]["triggers"]:
            yield name(scaled), trigger["metadata"]["query"]
    for rule in yaml.safe_load((K8S / "components/autoscaling/adapter-rule.yaml").read_text()):
        yield "adapter-rule.yaml", rule["metricsQuery"]
        yield "adapter-rule.yaml", rule["seriesQuery"]
    for hpa in load((K8S / "components/autoscaling/shard-hpa.yaml").read_text()):
        for metric in hpa["spec"]["metrics"]:
            yield name(hpa), metric["external"]["metric"]["name"]


def rules_and_dashboards_name_only_metrics_that_the_binary_exports(_):
    exported = exported_metrics() | PROMETHEUS_METRICS
    count = 0
    for place, expression in expressions():
        used = metrics_of(expression)
        assert used, f"{place}: {expression} names no metric"
        assert used <= exported, f"{place}: nobody exports {sorted(used - exported)}"
        count += 1
    assert count > 20, "rules and panels were found"


def a_metric_that_nobody_exports_would_be_noticed(_):
    equal(metrics_of('sum by (pod) (rate(a_total{x="y_total"}[5m])) > scalar(max(b)) or absent(up == 1)'), {"a_total", "b", "up"})


def every_alert_has_an_entry_in_the_runbook_and_every_entry_an_alert(_):
    rules = load((K8S / "components/monitoring/rules.yaml").read_text())
    alerts = {a["alert"]: a for r in rules for g in r["spec"]["groups"] for a in g["rules"] if "alert" in a}
    headings = set(re.findall(r"^## (Penstock\w+)$", (K8S / "runbook.md").read_text(), re.M))
    equal(set(alerts), headings)
    for alert, rule in alerts.items():
        equal(rule["annotations"]["runbook_url"], f"k8s/runbook.md#{alert.lower()}")


def grace_periods_are_a_tenth_longer_than_the_longest_drain(rendered):
    """A pod of one role stops in three stages at most (mempool, extractor, follower), each with a deadline of its own;
    a gateway in two, after a wait. The last tenth is for what no deadline covers."""
    source = (REPOSITORY / "devnet/src/node.rs").read_text()
    stage = int(re.search(r"const STOP_TIMEOUT: Duration = Duration::from_secs\((\d+)\);", source)[1])
    for pod in running.ours(rendered.objects("overlays/testnet")):
        waits = (pod.containers[0]["lifecycle"]["preStop"].get("sleep") or {}).get("seconds", 0)
        longest = max(3 * stage, 2 * stage + waits)
        grace = pod.spec["terminationGracePeriodSeconds"]
        assert longest <= grace * 0.9, f"{pod.name}: {grace} s for a drain of up to {longest} s"


def accepts_its_command_line(binary, objects, pod, secrets):
    """The command line, environment and files of each of a pod's containers, given to the real binary."""
    with tempfile.TemporaryDirectory() as folder:
        for container in running.containers(objects, pod, folder, ordinal=0, secrets=secrets):
            done = subprocess.run(
                [binary, *map(container.here, container.args), "--check-config"],
                env={"PATH": "/usr/bin:/bin", **{key: container.here(value) for key, value in container.env.items()}},
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode == 0, f"{container.args}: {done.stdout}{done.stderr}"


def compose_names_only_what_is_there(binary):
    """compose.yaml: services, volumes, files and Services' names, and command lines by the real binary."""
    (compose,) = load((REPOSITORY / "compose.yaml").read_text())
    services = compose["services"]
    used_volumes, checked = set(), 0
    for title, service in services.items():
        assert set(service.get("depends_on") or []) <= set(services), f"{title} depends on nobody"
        mounts = {}
        for volume in service["volumes"]:
            source, target, *_ = volume.split(":")
            if not source.startswith("./"):
                used_volumes.add(source)
                continue
            mounts[target] = REPOSITORY / source
            assert mounts[target].is_dir(), f"{title}: there is no {source}"

        def here(part):
            """A path in a mounted folder, on this machine."""
            folder, _, name = part.rpartition("/")
            return str(mounts[folder] / name) if folder in mounts else part

        if service["command"][0] in ("node", "shard"):
            done = subprocess.run(
                [binary, *map(here, service["command"]), "--check-config"],
                env={"PATH": "/usr/bin:/bin", **service["environment"]},
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, f"{title}: {done.stdout}{done.stderr}"
            checked += 1
        else:
            # What a server's configuration takes from its environment.
            texts = [(mounts["/etc/nats"] / name).read_text() for name in ("nats.conf", "cluster.conf")]
            wanted = set(re.findall(r"^\s*\w+: \$(\w+)$", "".join(texts), flags=re.M))
            equal(set(service["environment"]), wanted, f"{title}: environment")
    equal(checked, 5, "three nodes and two shards")
    equal(used_volumes, set(compose["volumes"]), "volumes")
    # The servers that penstock.toml names.
    toml = tomllib.loads((REPOSITORY / "k8s/base/config/penstock.toml").read_text())
    names = {alias for s in services.values() for alias in s.get("networks", {}).get("default", {}).get("aliases", [])}
    equal(set(re.findall(r"//([^:]+):", toml["nats"]["url"])), names)


def the_image_is_built_from_all_that_the_binary_includes(rendered):
    """.dockerignore lets in each file that the sources of a package include."""
    allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    included = 0
    for package in ("actors", "shaders", "devnet"):
        for source in (REPOSITORY / package).rglob("*.rs"):
            if "target" in source.parts:
                continue
            for path in re.findall(r'include_(?:bytes|str)!\(\s*"([^"]+)"', source.read_text()):
                file = (source.parent / path).resolve().relative_to(REPOSITORY)
                included += 1
                assert any(file.is_relative_to(entry) for entry in allowed), f"{source}: {file} is not in the build"
    assert included > 10, included


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubectl", required=True)
    parser.add_argument("--penstock", required=True)
    args = parser.parse_args()
    schemas = Schemas()
    good = (HERE / "planted/good.yaml").read_text()
    check("the set without an error passes", passes_lint, good, schemas)
    for title, error in tomllib.loads((HERE / "planted/errors.toml").read_text()).items():
        check(f"planted: {title.replace('-', ' ')}", is_caught, good, error, schemas)
    with tempfile.TemporaryDirectory() as folder:
        rendered = Rendered(args.kubectl, Path(folder))
    for each in rendered.texts:
        check(f"{each} passes all checks", passes_lint, rendered.whole(each), schemas)
    for each in sorted(rendered.texts.keys() - LAID_ON.keys()):
        objects, secrets = rendered.objects(each), {}
        check(f"{each}: keys are made as promised", lambda o=objects, s=secrets: s.update(running.made_secrets(args.penstock, o)))
        for pod in running.ours(objects):
            test = f"{each}: penstock accepts the command line of {pod.name}"
            check(test, accepts_its_command_line, args.penstock, objects, pod, secrets)
    for test in (
        every_file_in_k8s_is_used,
        images_have_a_version,
        the_version_is_the_workspaces,
        nothing_secret_is_in_the_repository,
        rules_and_dashboards_name_only_metrics_that_the_binary_exports,
        a_metric_that_nobody_exports_would_be_noticed,
        every_alert_has_an_entry_in_the_runbook_and_every_entry_an_alert,
        grace_periods_are_a_tenth_longer_than_the_longest_drain,
        the_image_is_built_from_all_that_the_binary_includes,
    ):
        check(test.__name__.replace("_", " "), test, rendered)
    check("compose names only what is there", compose_names_only_what_is_there, args.penstock)
    harness.finish()


if __name__ == "__main__":
    main()
