"""A kubelet and a Service in miniature: pods of rendered manifests, their probes, their roll-outs, their end.

It does what the manifests say and nothing else: volumes, environment and arguments as they stand there, startup before
readiness, preStop before SIGTERM before SIGKILL, one pod after the other in a roll-out, and an endpoint that is taken out
of its Service some time after the pod began to end.
"""

import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pod as templates

# Between the start of a pod's end and the moment when nobody sends it new connections any more. Clusters take up to
# some seconds; the gateway waits 5 s in its preStop, and this is less.
ENDPOINT_REMOVAL_S = 2.0
# A debug build on a loaded machine.
READY_S_MAX = 180
POLL_S = 0.2


class NotReady(Exception):
    """A pod did not get ready, or ended."""


def get(url, timeout=5.0):
    """Status and text of an HTTP GET; status 0 where nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return 0, str(error)


class RunningPod:
    """One pod."""

    def __init__(self, cluster, template, ordinal):
        self.cluster, self.template, self.ordinal = cluster, template, ordinal
        self.name = templates.pod_name(template, ordinal)
        self.set = template.owner["metadata"]["name"]
        service = template.owner["spec"]["serviceName"]
        # By its own name, its name in the Service, and every Service that selects it.
        names = [self.name, f"{self.name}.{service}", *cluster.services_of(template)]
        self.address = cluster.runtime.add_pod(self.name, names)
        # Whether Services send it connections.
        self.in_service = threading.Event()

    def start(self):
        """Starts its container."""
        folder = self.cluster.scratch / "volumes"
        made = templates.containers(
            self.cluster.objects, self.template, folder, self.ordinal, self.cluster.secrets
        )
        assert len(made) == 1, f"{self.name} has one container"
        (self.container,) = made
        self.cluster.runtime.start(self.name, self.container)

    def probe(self, which):
        """Status and text of one of its probes."""
        path, port = self.container.probes[which]
        return get(f"http://{self.address}:{port}{path}")

    def wait_ready(self):
        """Startup, then readiness: from then on it is in its Services."""
        end = time.monotonic() + READY_S_MAX
        started = time.monotonic()
        for which in ("startupProbe", "readinessProbe"):
            while True:
                if which == "startupProbe" and time.monotonic() > started + self.container.startup_limit:
                    self.cluster.runtime.kill(self.name)
                    self.cluster.runtime.wait(self.name, 10)
                    self.start()
                    started = time.monotonic()
                status, text = self.probe(which)
                if status == 200:
                    break
                if not self.cluster.runtime.alive(self.name):
                    raise NotReady(f"{self.name} ended:\n{self.cluster.runtime.log(self.name)[-3000:]}")
                if time.monotonic() > end:
                    log = self.cluster.runtime.log(self.name)[-3000:]
                    raise NotReady(f"{self.name}: {which} says {status} {text}\n{log}")
                time.sleep(POLL_S)
        self.in_service.set()

    def end(self):
        """As a kubelet ends a pod. Gives how long it took, in seconds; raises where it had to be killed."""
        runtime, start = self.cluster.runtime, time.monotonic()
        grace = self.template.spec["terminationGracePeriodSeconds"]
        removal = threading.Timer(ENDPOINT_REMOVAL_S, self.in_service.clear)
        removal.start()
        if self.container.pre_stop:
            hook = threading.Thread(target=runtime.exec, args=(self.name, self.container, self.container.pre_stop))
        else:
            hook = threading.Thread(target=time.sleep, args=(self.container.pre_stop_sleep,))
        hook.start()
        # The hook ends, or the container does, or the grace period.
        while hook.is_alive() and runtime.alive(self.name) and time.monotonic() - start < grace:
            time.sleep(0.05)
        runtime.terminate(self.name)
        ended = runtime.wait(self.name, max(0.1, grace - (time.monotonic() - start)))
        took = time.monotonic() - start
        if not ended:
            runtime.kill(self.name)
            runtime.wait(self.name, 10)
        hook.join()
        removal.join()
        if not ended:
            raise NotReady(f"{self.name} did not end within its grace period of {grace} s")
        return took

    def restart(self):
        """Ends it and starts it again on the same volumes; gives how long its end took."""
        took = self.end()
        self.start()
        self.wait_ready()
        return took

    def crash(self):
        """kill -9, and a new start: what a kubelet does with a container that ended."""
        self.in_service.clear()
        self.cluster.runtime.kill(self.name)
        self.cluster.runtime.wait(self.name, 10)
        self.start()


class Cluster:
    """All StatefulSets of a set of rendered objects."""

    def __init__(self, objects, runtime, scratch, secrets=None):
        self.objects, self.runtime, self.scratch = objects, runtime, Path(scratch)
        self.secrets = secrets or {}
        self.pods = {}
        for template in templates.stateful(objects):
            for ordinal in range(template.owner["spec"]["replicas"]):
                pod = RunningPod(self, template, ordinal)
                self.pods[pod.name] = pod

    def services_of(self, template):
        """Names of the Services that select a pod template."""
        for obj in self.objects:
            if obj["kind"] == "Service" and obj["spec"].get("selector", {}).items() <= template.labels.items():
                yield obj["metadata"]["name"]

    def of(self, name):
        """The pods of a StatefulSet, by ordinal."""
        return [pod for pod in self.pods.values() if pod.set == name]

    def start(self):
        """Starts all at once, as a cluster does, and restarts what ends until all is ready."""
        for pod in self.pods.values():
            pod.start()
        end = time.monotonic() + READY_S_MAX
        for pod in self.pods.values():
            while True:
                try:
                    pod.wait_ready()
                    break
                except NotReady:
                    # CrashLoopBackOff: a node whose NATS is not there yet ends and is started again.
                    if self.runtime.alive(pod.name) or time.monotonic() > end:
                        raise
                    time.sleep(1)
                    pod.start()

    def endpoints(self, service):
        """Addresses behind a Service: pods that are ready and not ending."""
        (obj,) = [o for o in self.objects if o["kind"] == "Service" and o["metadata"]["name"] == service]
        wanted = obj["spec"]["selector"].items()
        return [
            pod.address
            for pod in self.pods.values()
            if wanted <= pod.template.labels.items() and pod.in_service.is_set()
        ]

    def roll_out(self, name):
        """Restarts the pods of a StatefulSet from the highest ordinal down; gives the seconds that each took to end."""
        settle = 0
        took = {}
        for pod in reversed(self.of(name)):
            time.sleep(settle)
            took[pod.name] = pod.restart()
            settle = pod.template.owner["spec"].get("minReadySeconds", 0)
        return took

    def close(self):
        """Ends everything."""
        self.runtime.close()
