"""Runs pods as containers of podman, as their security contexts say: user 10001, a read-only root, no capabilities.

Podman 4.3 of Debian 12, with runc and cgroupfs: crun refuses hybrid cgroups, and raising limits needs a capability that
a container of CI lacks. See CONTAINERS_CONF below.
"""

import json
import os
import subprocess
from pathlib import Path

CONTAINERS_CONF = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
[network]
network_backend = "netavark"
"""
SUBNET = "10.89.77"
USER = 10_001


def podman(*args, check=True, timeout=300):
    """Runs podman; gives what it printed."""
    done = subprocess.run(["podman", *map(str, args)], capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise RuntimeError(f"podman {' '.join(map(str, args))}: {done.stderr.strip()}")
    return done.stdout.strip()


class Runtime:
    """Starts and stops containers."""

    name = "containers"

    def __init__(self, scratch):
        self.scratch = Path(scratch)
        self.prefix = f"pk{os.getpid()}"
        self.addresses, self.names, self.started = {}, {}, set()
        podman("network", "create", "--subnet", f"{SUBNET}.0/24", self.prefix)

    def add_pod(self, pod, names):
        """An address for a pod, which is then known by `names`."""
        self.addresses[pod] = f"{SUBNET}.{len(self.addresses) + 10}"
        self.names[pod] = list(names)
        return self.addresses[pod]

    def _container(self, pod):
        return f"{self.prefix}-{pod}"

    def start(self, pod, container):
        """Starts a container of the pod's image, arguments, environment, volumes and memory limit."""
        podman("rm", "--force", "--ignore", self._container(pod))
        args = ["run", "--detach", "--name", self._container(pod), "--pull", "never"]
        args += ["--network", self.prefix, "--ip", self.addresses[pod], "--hostname", pod]
        # aardvark-dns forgets a container that was disconnected once, so names are in the hosts file.
        for other, names in self.names.items():
            for name in names:
                args += ["--add-host", f"{name}:{self.addresses[other]}"]
        args += ["--user", f"{USER}:{USER}", "--read-only", "--read-only-tmpfs=false"]
        args += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
        if container.memory_limit:
            args += ["--memory", container.memory_limit.replace("Mi", "m").replace("Gi", "g")]
        for key, value in container.env.items():
            args += ["--env", f"{key}={value}"]
        for inside, outside in container.mounts.items():
            writable = inside in container.writable
            if writable:
                os.chown(outside, USER, USER)
            args += ["--volume", f"{outside}:{inside}:{'rw' if writable else 'ro'}"]
        if container.command:
            args += ["--entrypoint", json.dumps(container.command)]
        podman(*args, container.image, *container.args)
        self.started.add(pod)

    def alive(self, pod):
        """Whether the container runs."""
        return podman("inspect", "--format", "{{.State.Running}}", self._container(pod)) == "true"

    def exec(self, pod, container, command):
        """Runs a command in a running container; gives its exit status."""
        done = subprocess.run(["podman", "exec", self._container(pod), *command], capture_output=True, text=True)
        return done.returncode

    def terminate(self, pod):
        """SIGTERM."""
        podman("kill", "--signal", "TERM", self._container(pod), check=False)

    def kill(self, pod):
        """SIGKILL."""
        podman("kill", "--signal", "KILL", self._container(pod), check=False)

    def wait(self, pod, seconds):
        """Waits for the container's end; whether it came."""
        try:
            podman("wait", self._container(pod), timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def pause(self, pod):
        """Freezes it."""
        podman("pause", self._container(pod))

    def resume(self, pod):
        """Goes on."""
        podman("unpause", self._container(pod))

    def disconnect(self, pod):
        """Takes it off the network."""
        podman("network", "disconnect", self.prefix, self._container(pod))

    def connect(self, pod):
        """Brings it back, with the address that it had."""
        podman("network", "connect", "--ip", self.addresses[pod], self.prefix, self._container(pod))

    def process(self, pod):
        """The id of its first process."""
        return int(podman("inspect", "--format", "{{.State.Pid}}", self._container(pod)))

    def log(self, pod):
        """What it printed."""
        done = subprocess.run(["podman", "logs", self._container(pod)], capture_output=True, text=True)
        return done.stdout + done.stderr

    def close(self):
        """Removes everything that was made."""
        for pod in self.started:
            log = self.log(pod)
            (self.scratch / f"{pod}.log").write_text(log)
            podman("rm", "--force", "--ignore", "--time", "0", self._container(pod), check=False)
        podman("network", "rm", "--force", self.prefix, check=False)
