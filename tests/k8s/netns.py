"""Runs pods as processes in network namespaces: each pod has an address of its own, and names as in a cluster.

The driver itself lives in a namespace that holds the bridge, so that nothing of it touches the machine's network; see
`enter`. Paths of the containers are put to where their volumes lie on this machine; users and read-only roots are what
the containers of podman.py have.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

NETWORK = "10.88.0"
BRIDGE = "br0"


def enter():
    """Starts this program again in a network namespace of its own, with the bridge in it."""
    if os.environ.get("PENSTOCK_K8S_NETNS"):
        return
    env = {**os.environ, "PENSTOCK_K8S_NETNS": "1"}
    os.execvpe("unshare", ["unshare", "--net", sys.executable, *sys.argv], env)


def _ip(*args):
    subprocess.run(["ip", *args], check=True, capture_output=True, text=True)


class Runtime:
    """Starts and stops containers as processes."""

    name = "network namespaces"

    def __init__(self, scratch, binaries):
        """`binaries` has the path of each program by its name: penstock, nats-server."""
        self.scratch, self.binaries = Path(scratch), binaries
        self.hosts, self.namespaces, self.processes = {}, {}, {}
        _ip("link", "set", "lo", "up")
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")

    def add_pod(self, pod, names):
        """A namespace for a pod, which is then known by `names`. Gives its address."""
        number = len(self.namespaces) + 10
        namespace, address = f"pk{os.getpid()}-{pod}", f"{NETWORK}.{number}"
        # Noted first, so that what is half made is cleared too.
        self.namespaces[pod] = namespace
        _ip("netns", "add", namespace)
        _ip("link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        _ip("link", "set", f"v{number}", "master", BRIDGE, "up")
        _ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        _ip("-n", namespace, "link", "set", "eth0", "up")
        _ip("-n", namespace, "link", "set", "lo", "up")
        Path(f"/etc/netns/{namespace}").mkdir(parents=True)
        for name in names:
            self.hosts.setdefault(name, []).append(address)
        self._write_hosts()
        return address

    def _write_hosts(self):
        lines = ["127.0.0.1 localhost"]
        lines += [f"{address} {name}" for name, addresses in self.hosts.items() for address in addresses]
        for namespace in self.namespaces.values():
            folder = Path(f"/etc/netns/{namespace}")
            if folder.is_dir():
                (folder / "hosts").write_text("\n".join(lines) + "\n")

    def _argv(self, pod, container, command):
        program = self.binaries[Path(command[0]).name]
        return ["ip", "netns", "exec", self.namespaces[pod], program, *(container.here(part) for part in command[1:])]

    @staticmethod
    def _env(container):
        return {"PATH": "/usr/bin:/bin", **{key: container.here(value) for key, value in container.env.items()}}

    def start(self, pod, container):
        """Starts a container. Its output goes to a file in the scratch folder."""
        for inside, outside in container.mounts.items():
            if inside not in container.writable:
                outside = Path(outside)
                for file in outside.iterdir() if outside.is_dir() else [outside]:
                    file.write_text(container.here(file.read_text()))
        command = container.command or ["penstock"]
        log = open(self.scratch / f"{pod}.log", "ab")
        self.processes[pod] = subprocess.Popen(
            self._argv(pod, container, [*command, *container.args]),
            env=self._env(container),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def alive(self, pod):
        """Whether the pod's process runs."""
        return self.processes[pod].poll() is None

    def exec(self, pod, container, command):
        """Runs a command in a running container; gives its exit status."""
        done = subprocess.run(self._argv(pod, container, command), env=self._env(container), capture_output=True, text=True)
        return done.returncode

    def terminate(self, pod):
        """SIGTERM."""
        if self.alive(pod):
            self.processes[pod].send_signal(signal.SIGTERM)

    def kill(self, pod):
        """SIGKILL."""
        if self.alive(pod):
            self.processes[pod].kill()

    def wait(self, pod, seconds):
        """Waits for the process's end; whether it came."""
        try:
            self.processes[pod].wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def pause(self, pod):
        """SIGSTOP."""
        self.processes[pod].send_signal(signal.SIGSTOP)

    def resume(self, pod):
        """SIGCONT."""
        self.processes[pod].send_signal(signal.SIGCONT)

    def disconnect(self, pod):
        """Takes the pod's link down."""
        _ip("-n", self.namespaces[pod], "link", "set", "eth0", "down")

    def connect(self, pod):
        """Brings it up again."""
        _ip("-n", self.namespaces[pod], "link", "set", "eth0", "up")

    def process(self, pod):
        """The id of its process."""
        return self.processes[pod].pid

    def log(self, pod):
        """What it printed."""
        return (self.scratch / f"{pod}.log").read_text(errors="replace")

    def close(self):
        """Ends everything that was started."""
        for pod, process in self.processes.items():
            if process.poll() is None:
                process.kill()
                process.wait()
        for namespace in self.namespaces.values():
            subprocess.run(["ip", "netns", "delete", namespace], capture_output=True)
            shutil.rmtree(f"/etc/netns/{namespace}", ignore_errors=True)
