"""From three bare machines to a devnet, and through what can happen to it: the commands of devnet/docs/operations.md and
of the page that `penstock init` writes, each run as it is written there, on machines with a systemd of their own.

PENSTOCK_BIN is the binary. Root is needed, systemd-nspawn and debootstrap from Debian, and pip with PyPI. The last line
is "N passed, N failed".
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "k8s"))
import harness  # noqa: E402
from machine import Bridge, Machine, rootfs, wait  # noqa: E402

REPOSITORY = Path(__file__).parent.parent.parent
OPERATIONS = REPOSITORY / "devnet/docs/operations.md"
PENSTOCK = Path(os.environ["PENSTOCK_BIN"]).resolve()
CACHE = Path(os.environ.get("PENSTOCK_CACHE", Path.home() / ".cache/penstock"))
MIRROR = os.environ.get("PENSTOCK_DEBIAN_MIRROR", "http://deb.debian.org/debian")
# Posts JSON.
ASK = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), {"content-type": "application/json"})
print(urllib.request.urlopen(request, timeout=60).read().decode())
"""
# What a node that halts ends with.
HALTED = "3"


def blocks(page, heading):
    """The shell blocks below a heading of a page."""
    part = re.split(r"^#{1,2} (?=[A-Z])", Path(page).read_text(), flags=re.M)
    section = next(text for text in part if text.startswith(heading))
    found = re.findall(r"^```sh\n(.*?)^```", section, flags=re.M | re.S)
    assert found, f"{page}: no commands below {heading}"
    return found


class Testnet:
    """The machines, and what the pages say to do with them."""

    def __init__(self, scratch):
        self.scratch = Path(scratch)
        self.machines, self.bridge = [], None

    def here(self, command, **env):
        """Runs a command on the operator's machine, which is this one."""
        path = f"{self.scratch / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/sh", "-ec", command], cwd=self.scratch, capture_output=True, text=True, env={**os.environ, "PATH": path, **env}
        )
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def rpc(self, method, *params, through=2):
        """Asks the JSON-RPC of a machine, over the machines' network."""
        machine = self.machines[through]
        request = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        ask = [sys.executable, "-c", ASK, f"http://{machine.address}:8545", request]
        body = json.loads(machine.inside(["--net"], ask))
        assert "error" not in body, body
        return body["result"]

    def height(self):
        """The head's number, by the third machine's gateway."""
        return int(self.rpc("eth_blockNumber"), 16)

    def goes_on(self):
        """Blocks come."""
        height = self.height()
        wait("blocks go on", lambda: self.height() > height + 1)

    def status(self):
        """What `penstock status` says on the third machine, which leads nothing."""
        return json.loads(self.machines[2].run("penstock status --json"))

    def leader(self):
        """The machine that leads the mempool."""
        for node in self.status()["nodes"]:
            if "mempool" in node["leads"]:
                return next(machine for machine in self.machines if machine.name == node["name"])
        return None

    def close(self):
        """Takes all of it away."""
        for machine in self.machines:
            machine.close()
        if self.bridge:
            self.bridge.close()


def tests(net):
    """In this order: each goes on from where the one before ended."""
    server, heads = None, {}

    def install_nats_fetches_the_pinned_server():
        nonlocal server
        (net.scratch / "bin").mkdir()
        (net.scratch / "bin/penstock").symlink_to(PENSTOCK)
        home = net.scratch / "home"
        home.mkdir()
        said = net.here("penstock install-nats", HOME=str(home), XDG_CACHE_HOME="")
        server = next((home / ".cache/penstock").glob("nats-server*"))
        assert str(server) in said, said
        assert "2.15" in net.here(f"{server} --version")
        again = net.here("penstock install-nats", HOME=str(home), XDG_CACHE_HOME="")
        assert "already" in again, again

    def three_bare_machines_become_a_devnet_by_the_commands_of_the_pages():
        (init,) = blocks(OPERATIONS, "From three bare machines")
        net.here(init)
        names = sorted(entry.name for entry in (net.scratch / "testnet").iterdir() if entry.is_dir())
        harness.equal(names, ["a.example", "b.example", "c.example"])
        base = rootfs(CACHE / "machines", MIRROR)
        net.bridge = Bridge()
        programs = {"penstock": PENSTOCK, "nats-server": server}
        for number, name in enumerate(names, 11):
            net.machines.append(Machine(name, number, net.bridge, base, net.scratch / "machines", programs))
        known = "".join(f"{machine.address} {machine.name}\n" for machine in net.machines)
        for machine in net.machines:
            machine.write("/etc/hosts", f"127.0.0.1 localhost\n{known}")
            # What the page calls this machine's folder, copied to it.
            shutil.copytree(net.scratch / "testnet" / machine.name, machine.root / "root" / machine.name)
            machine.boot()
        (commands,) = blocks(net.scratch / "testnet/README.md", "This devnet")
        *lines, status = commands.strip().splitlines()
        harness.equal(status, "penstock status")
        for machine in net.machines:
            for line in lines:
                machine.run(f"cd /root; {line.replace('HOST', machine.name) if not line.startswith('systemctl') else line}")
        for machine in net.machines:
            wait(f"{machine.name} answers", lambda: "ready: yes" in machine.run(status, check=False))
        net.goes_on()

    def everybody_sees_three_nodes_and_three_shards():
        def whole():
            found = net.status()
            ready = all(node["lag"] is not None and node["lag"] <= 8 for node in found["nodes"])
            return ready and len(found["nodes"]) == 3 and len(found["shards"]) == 3

        wait("all are seen", whole)
        for machine in net.machines:
            for unit in ("penstock-nats", "penstock-node", "penstock-shard"):
                harness.equal(machine.run(f"systemctl is-active {unit}").strip(), "active", f"{machine.name} {unit}")
                harness.equal(machine.run(f"systemctl show --property User --value {unit}").strip(), "penstock")
            # Certificates name machines: servers that tell each other addresses would never believe each other.
            servers = machine.run("journalctl --no-pager --unit penstock-nats")
            assert "bad certificate" not in servers, servers[-2000:]

    def the_demo_passes_through_the_gateway():
        said = net.machines[1].run("penstock demo --rpc-url http://c.example:8545 --transactions 10 --json")
        report = json.loads(said)
        assert report["scenes"], report
        for scene in report["scenes"]:
            harness.equal(scene["transactions"], scene["inferences"])

    def a_drained_node_hands_over_and_comes_back():
        (drain,) = blocks(OPERATIONS, "Stop, start, drain")
        leads = wait("somebody leads", net.leader)
        before = leads.run("systemctl show --property ExecMainPID --value penstock-node")
        leads.run(drain)
        wait("another leads", lambda: net.leader() not in (None, leads))
        wait("systemd starts it again", lambda: leads.run("systemctl show --property ExecMainPID --value penstock-node") != before)
        wait("it is ready", lambda: "ready: yes" in leads.run("penstock status", check=False))
        net.goes_on()

    def after_a_power_cut_of_all_machines_the_chain_goes_on_where_it_was():
        height = net.height()
        block = net.rpc("eth_getBlockByNumber", hex(height), False)
        for machine in net.machines:
            machine.power_cut()
        for machine in net.machines:
            machine.boot()
        for machine in net.machines:
            wait(f"{machine.name} answers", lambda: "ready: yes" in machine.run("penstock status", check=False))
        harness.equal(net.rpc("eth_getBlockByNumber", hex(height), False), block)
        net.goes_on()

    def a_node_whose_log_was_lost_halts_and_says_so():
        stop, (start, head), _, _ = _lost()
        # One by one, each would be given the log by the others.
        for line in (*stop, start):
            for machine in net.machines:
                machine.run(line)
        for machine in net.machines:
            heads[machine] = int(machine.run(head).split()[0])
        leads = net.machines[0]
        leads.run("systemctl start penstock-node")
        wait("it ended", lambda: leads.run("systemctl is-active penstock-node", check=False).strip() == "failed")
        code = leads.run("systemctl show --property ExecMainStatus --value penstock-node").strip()
        harness.equal(code, HALTED, leads.journal("penstock-node"))
        assert "halted" in leads.journal("penstock-node")
        leads.run("systemctl reset-failed penstock-node")

    def a_lost_log_is_written_anew_from_a_copy():
        _, _, rebuild, start = _lost()
        highest = max(net.machines, key=lambda machine: heads[machine])
        said = "".join(highest.run(line) for line in rebuild)
        assert "are in the log where they were" in said, said
        height = heads[highest]
        assert f"blocks 1 to {height} " in said, said
        for machine in net.machines:
            for line in start:
                machine.run(line)
        for machine in net.machines:
            wait(f"{machine.name} answers", lambda: "ready: yes" in machine.run("penstock status", check=False))
        wait("the chain goes on", lambda: net.height() > height + 1)
        (shown,) = {net.rpc("eth_getBlockByNumber", hex(height), False, through=index)["hash"] for index in range(3)}
        log = net.machines[2].run("penstock log show --config /etc/penstock/node.toml --json")
        entries = [json.loads(line) for line in log.splitlines()]
        (entry,) = [entry for entry in entries if entry["kind"] == "block" and entry["height"] == height]
        harness.equal(entry["hash"], shown)

    return [value for value in locals().values() if callable(value) and value.__name__ != "tests"]


def _lost():
    """The commands for a lost log: on each machine twice, on the one with the highest head, and again on each."""
    (commands,) = blocks(OPERATIONS, "When a node halts")
    parts = re.split(r"^# on .*\n", commands, flags=re.M)
    harness.equal(len(parts), 5, commands)
    return [part.strip().splitlines() for part in parts[1:]]


def main():
    """Runs all tests."""
    scratch = tempfile.mkdtemp(prefix="penstock-machines-")
    net = Testnet(scratch)
    try:
        harness.run(tests(net))
    finally:
        if harness.failed():
            for machine in net.machines:
                if machine.init:
                    for unit in ("penstock-nats", "penstock-node", "penstock-shard"):
                        print(f"--- {machine.name} {unit}\n{machine.journal(unit)[-3000:]}")
        net.close()
        shutil.rmtree(scratch, ignore_errors=True)
    harness.finish()


if __name__ == "__main__":
    main()
