"""A bare machine: Debian with its own systemd, in namespaces of its own, on a bridge with the others.

The disk is an overlay over a root file system that all share, so that what a machine wrote survives a power cut. What is
run on it runs under its own process 1's namespaces.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

NETWORK = "10.78.0"
# Longest wait for a machine to boot, or for a command on it.
PATIENCE_S = 180


def _do(*args):
    subprocess.run(args, check=True, capture_output=True, text=True)


def rootfs(cache, mirror):
    """Debian with systemd, made once by debootstrap."""
    folder = Path(cache) / "bookworm-systemd"
    if not (folder / ".done").exists():
        print("        making a Debian with systemd, once", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        include = "--include=systemd,systemd-sysv,dbus,ca-certificates"
        _do("debootstrap", "--variant=minbase", include, "bookworm", str(folder), mirror)
        (folder / ".done").touch()
    return folder


class Bridge:
    """What the machines are plugged into: a namespace of its own, so that this machine's network is never touched."""

    def __init__(self):
        self.namespace = f"pm{os.getpid()}-sw"
        _do("ip", "netns", "add", self.namespace)
        _do("ip", "-n", self.namespace, "link", "add", "br0", "type", "bridge")
        _do("ip", "-n", self.namespace, "link", "set", "br0", "up")

    def plug(self, namespace, number):
        """Gives a namespace a link with an address."""
        port = f"v{number}"
        address = f"{NETWORK}.{number}"
        link = ["ip", "link", "add", "name", "eth0", "netns", namespace, "type", "veth"]
        _do(*link, "peer", "name", port, "netns", self.namespace)
        _do("ip", "-n", self.namespace, "link", "set", port, "master", "br0", "up")
        _do("ip", "-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        _do("ip", "-n", namespace, "link", "set", "eth0", "up")
        _do("ip", "-n", namespace, "link", "set", "lo", "up")

    def close(self):
        """Takes it away."""
        subprocess.run(["ip", "netns", "delete", self.namespace], capture_output=True)


class Machine:
    """One machine."""

    def __init__(self, name, number, bridge, base, scratch, programs):
        """`programs` lie in its /usr/local/bin."""
        self.name, self.number = name, number
        self.address = f"{NETWORK}.{number}"
        self.folder = Path(scratch) / name
        self.root = self.folder / "root"
        self.programs = programs
        self.container = self.init = None
        self.namespace = f"pm{os.getpid()}-{number}"
        _do("ip", "netns", "add", self.namespace)
        bridge.plug(self.namespace, number)
        for part in ("root", "upper", "work"):
            (self.folder / part).mkdir(parents=True)
        layers = f"lowerdir={base},upperdir={self.folder}/upper,workdir={self.folder}/work"
        _do("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))

    def write(self, path, text):
        """Writes a file, before it is booted."""
        (self.root / path.lstrip("/")).write_text(text)

    def boot(self):
        """Boots it, and waits until systemd says that it runs."""
        binds = [f"--bind-ro={path}:/usr/local/bin/{name}" for name, path in self.programs.items()]
        command = ["systemd-nspawn", "--quiet", f"--directory={self.root}", "--boot", "--register=no", "--keep-unit"]
        command += [f"--network-namespace-path=/run/netns/{self.namespace}", f"--machine={self.name.split('.')[0]}"]
        command += ["--resolv-conf=off", "--timezone=off", "--link-journal=no", "--console=read-only", *binds]
        log = open(self.folder / "console.log", "ab")
        self.container = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.init = self._wait("it has a process 1", self._find_init)
        self._wait("it is up", lambda: self.run("systemctl is-system-running", check=False).strip() in ("running", "degraded"))

    def _find_init(self):
        children = Path(f"/proc/{self.container.pid}/task/{self.container.pid}/children")
        if self.container.poll() is not None:
            raise AssertionError(f"{self.name} did not boot:\n{(self.folder / 'console.log').read_text(errors='replace')}")
        for child in children.read_text().split():
            name = Path(f"/proc/{child}/comm").read_text().strip()
            if name == "systemd":
                return int(child)
        return None

    def _wait(self, what, look):
        return wait(f"{self.name}: {what}", look)

    def run(self, command, check=True):
        """Runs a shell command on it, as root; gives what it printed."""
        spaces = ["--mount", "--uts", "--ipc", "--net", "--pid"]
        return self.inside(spaces, ["/bin/sh", "-ec", command], check)

    def inside(self, namespaces, command, check=True):
        """Runs a command in some of its namespaces."""
        done = subprocess.run(
            ["nsenter", "--target", str(self.init), *namespaces, "--", *command],
            capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=PATIENCE_S,
            env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"},
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{self.name}: {command}: exit {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def power_cut(self):
        """Ends all of it at once, without a word: process 1 is killed, and the kernel kills the rest."""
        for process in (self.init, self.container.pid):
            try:
                os.kill(process, 9)
            except ProcessLookupError:
                pass
        self.container.wait()
        self.init = None

    def journal(self, unit):
        """The end of a unit's log."""
        return self.run(f"journalctl --no-pager --lines 40 --unit {unit}", check=False)

    def close(self):
        """Takes it away."""
        if self.container and self.container.poll() is None:
            self.power_cut()
        subprocess.run(["umount", "--lazy", str(self.root)], capture_output=True)
        subprocess.run(["ip", "netns", "delete", self.namespace], capture_output=True)


def wait(what, look):
    """Waits until `look` gives something true, and gives that."""
    end = time.monotonic() + PATIENCE_S
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"waited too long: {what}"
        time.sleep(0.2)
