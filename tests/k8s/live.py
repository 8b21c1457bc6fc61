"""The rendered manifests, run: as processes in network namespaces, or as containers of podman.

    python live.py --kubectl KUBECTL --penstock BINARY --nats NATS_SERVER [--overlay local] [--roll-out] [--chaos]
    python live.py --kubectl KUBECTL --penstock BINARY --podman [--overlay local] ...

What runs is what `kubectl kustomize` prints: its arguments, environment, ConfigMaps, volumes, probes and hooks.
"""

import argparse
import os
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import harness
import netns
import podman
import static
from cluster import Cluster, get
from harness import check, equal
from load import Load
from manifests import K8S, laid_over, load, render
from pod import made_secrets

# Transactions that must be included before a test goes on, and the longest wait for them: a debug build, two cores.
FEW, FEW_S = 20, 120
# Longest time of the demo: a debug build, blocks of a second.
DEMO_S = 180
# Time for a probe to change its mind: its failures times its period, and then some.
PROBE_S = 60

# Names of metrics that only faults bring to life.
FAULTS = {
    "scheduler_quarantines_total",
    "scheduler_forged_answers_total",
    "follower_entries_skipped_total",
    "wire_nats_denied_total",
    "wire_bus_dropped_total",
    "outbox_dropped_total",
    "mempool_refused_total",
}


def wait_until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what}: not after {seconds} s"
        time.sleep(0.2)


def all_get_ready(cluster):
    cluster.start()


def each_pod_listens_where_its_manifest_says(cluster):
    """The ports that the process really opened, from the kernel, against those that the container declares."""
    for pod in cluster.pods.values():
        listening = set()
        for table in ("tcp", "tcp6"):
            lines = Path(f"/proc/{cluster.runtime.process(pod.name)}/net/{table}").read_text().splitlines()[1:]
            for fields in map(str.split, lines):
                host, port = fields[1].split(":")
                # 0A is LISTEN; 0100007F is 127.0.0.1.
                if fields[3] == "0A" and host != "0100007F":
                    listening.add(int(port, 16))
        equal(listening, set(pod.container.ports.values()), pod.name)


def transactions_and_inference_go_through(cluster):
    with Load(lambda: cluster.endpoints("rpc")) as load_:
        load_.wait_for(FEW, FEW_S)
    load_.verify()


def _digest(binary, url):
    """The demo's digest of all answers, from a devnet at `url`."""
    done = subprocess.run([binary, "demo", "--rpc-url", url], capture_output=True, text=True, timeout=DEMO_S)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    (digest,) = re.findall(r"^digest of \d+ outcomes: (0x[0-9a-f]{64})$", done.stdout, re.M)
    return digest


def the_demo_passes(cluster, binary):
    """Against a gateway; its answers are those of a devnet in one process."""
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready"
        single = subprocess.Popen(
            [binary, "up", "--quiet", "--port", "0", "--ready-file", ready],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: ready.exists() and ready.read_text().endswith("\n"), PROBE_S, "penstock up is ready")
            wanted = _digest(binary, f"http://{ready.read_text().strip()}")
        finally:
            single.terminate()
            single.wait()
    equal(_digest(binary, f"http://{cluster.endpoints('rpc')[0]}:8545"), wanted, "digest")


def nobody_without_a_key_speaks_to_nats(cluster):
    """A client of NATS that has no nkey is told so and cut off."""
    for server in cluster.of("nats"):
        with socket.create_connection((server.address, 4222), timeout=10) as connection:
            connection.sendall(b"CONNECT {\"verbose\":true,\"pedantic\":false}\r\nSUB penstock.> 1\r\nPING\r\n")
            said = b""
            while part := connection.recv(4096):
                said += part
        assert b"Authorization Violation" in said, f"{server.name}: {said}"


def dashboards_have_data(cluster):
    """Every metric of rules and dashboards that does not stand for a fault is exported by a running process."""
    seen = set()
    for pod in cluster.pods.values():
        if pod.container.is_penstock:
            status, text = get(f"http://{pod.address}:9545/metrics")
            equal(status, 200, pod.name)
            seen |= set(re.findall(r"^([a-z_]+)(?:\{| )", text, re.M))
    wanted = {metric for _, expression in static.expressions() for metric in static.metrics_of(expression)}
    missing = wanted - seen - FAULTS - static.PROMETHEUS_METRICS
    assert not missing, f"no process exports {sorted(missing)}; there are {sorted(seen)}"


def liveness_never_depends_on_peers(cluster):
    """NATS hangs: pods say that they are not ready, and none that lives says that it should be restarted. One that ends by
    itself (a standby that takes over and finds no queue) is started again, as a kubelet would."""
    servers = cluster.of("nats")
    ours = [pod for pod in cluster.pods.values() if pod.set != "nats"]
    for server in servers:
        cluster.runtime.pause(server.name)
    try:
        for pod in ours:
            wait_until(lambda pod=pod: pod.probe("readinessProbe")[0] != 200, PROBE_S, f"{pod.name} is not ready")
        for pod in filter(lambda pod: cluster.runtime.alive(pod.name), ours):
            status, text = pod.probe("livenessProbe")
            # It may end between the two looks.
            assert status == 200 or not cluster.runtime.alive(pod.name), f"{pod.name}: {status} {text}"
    finally:
        for server in servers:
            cluster.runtime.resume(server.name)
    for pod in ours:
        if not cluster.runtime.alive(pod.name):
            print(f"        {pod.name} ended, and is started again")
            pod.start()
    for pod in cluster.pods.values():
        wait_until(lambda pod=pod: pod.probe("readinessProbe")[0] == 200, PROBE_S, f"{pod.name} is ready again")


def a_roll_out_loses_nothing(cluster, name):
    """Under load: no request fails, no accepted transaction is lost, and each pod ends within its grace period."""
    with Load(lambda: cluster.endpoints("rpc")) as load_:
        load_.wait_for(FEW // 4, FEW_S)
        start = time.monotonic()
        took = cluster.roll_out(name)
        lasted = time.monotonic() - start
        load_.wait_for(FEW // 2, FEW_S)
    load_.verify()
    ends = ", ".join(f"{pod} {seconds:.1f} s" for pod, seconds in took.items())
    print(f"        roll-out of {name}: {lasted:.0f} s, ends: {ends}; {load_.included} transactions, asked again: {load_.client.retried}")


def a_crash_loses_nothing(cluster, name):
    """kill -9 under load. A request on its way may be cut off; what was accepted is not lost."""
    with Load(lambda: cluster.endpoints("rpc")) as load_:
        load_.wait_for(FEW // 4, FEW_S)
        pod = cluster.of(name)[0]
        pod.crash()
        pod.wait_ready()
        load_.wait_for(FEW // 2, FEW_S)
    load_.client.failed.clear()
    load_.verify()


def a_paused_pod_goes_on(cluster, name):
    """Frozen for longer than a take-over takes, and thawed."""
    with Load(lambda: cluster.endpoints("rpc")) as load_:
        load_.wait_for(FEW // 4, FEW_S)
        pod = cluster.of(name)[0]
        cluster.runtime.pause(pod.name)
        time.sleep(5)
        cluster.runtime.resume(pod.name)
        wait_until(lambda: pod.probe("readinessProbe")[0] == 200, PROBE_S, f"{pod.name} is ready again")
        load_.wait_for(FEW // 2, FEW_S)
    load_.verify()


def a_pod_that_was_cut_off_comes_back(cluster, name):
    """Off the network for longer than a take-over takes, and on it again, with the same address."""
    with Load(lambda: cluster.endpoints("rpc")) as load_:
        load_.wait_for(FEW // 4, FEW_S)
        pod = cluster.of(name)[0]
        cluster.runtime.disconnect(pod.name)
        time.sleep(8)
        assert cluster.runtime.alive(pod.name), f"{pod.name} ended"
        cluster.runtime.connect(pod.name)
        wait_until(lambda: pod.probe("readinessProbe")[0] == 200, PROBE_S, f"{pod.name} is ready again")
        load_.wait_for(FEW // 2, FEW_S)
    load_.verify()


def roots_are_equal(cluster):
    """All gateways have the same block at the lower of their heads."""
    from load import Client

    clients = [Client(lambda pod=pod: [pod.address]) for pod in cluster.of("gateway")]
    height = min(int(client.call("eth_blockNumber"), 16) for client in clients)
    blocks = [client.call("eth_getBlockByNumber", hex(height), False) for client in clients]
    for block in blocks:
        equal(block["hash"], blocks[0]["hash"], f"height {height}")


def usage(cluster):
    """Highest memory and processor time of each pod: where the figures of k8s/README.md come from."""
    print("        pod            peak MiB   CPU s")
    for pod in cluster.pods.values():
        process = cluster.runtime.process(pod.name)
        status = Path(f"/proc/{process}/status").read_text()
        peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        print(f"        {pod.name:<14} {peak:8.1f} {seconds:7.1f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kubectl", required=True)
    parser.add_argument("--penstock", required=True, help="the binary")
    parser.add_argument("--nats", help="nats-server, for network namespaces")
    parser.add_argument("--podman", action="store_true", help="containers instead of network namespaces")
    parser.add_argument("--overlay", default="local")
    parser.add_argument("--component", action="append", default=[], help="lay a component over it")
    parser.add_argument("--replicas", type=int, help="so many gateways, mempools, schedulers and producers")
    parser.add_argument("--roll-out", action="store_true", help="restart each role under load")
    parser.add_argument("--faults", action="store_true", help="kill, pause and cut off pods under load")
    args = parser.parse_args()
    if not args.podman:
        netns.enter()
    folder = K8S / "base" if args.overlay == "base" else K8S / "overlays" / args.overlay
    with tempfile.TemporaryDirectory() as scratch:
        components = [K8S / "components" / name for name in args.component]
        objects = load(render(args.kubectl, laid_over(folder, components, Path(scratch) / "laid-over")))
    roles = ("gateway", "mempool", "scheduler", "producer")
    for obj in objects:
        if args.replicas and obj["kind"] == "StatefulSet" and obj["metadata"]["name"] in roles:
            obj["spec"]["replicas"] = args.replicas
    with tempfile.TemporaryDirectory(prefix="penstock-k8s-") as scratch:
        if args.podman:
            runtime = podman.Runtime(scratch)
        else:
            programs = {"penstock": str(Path(args.penstock).resolve()), "nats-server": str(Path(args.nats).resolve())}
            runtime = netns.Runtime(scratch, programs)
        try:
            cluster = Cluster(objects, runtime, scratch, made_secrets(args.penstock, objects))
            run(cluster, args)
        finally:
            runtime.close()
    harness.finish()


def run(cluster, args):
    where = f"{' with '.join([args.overlay, *args.component])} in {cluster.runtime.name}"

    def test(function, *rest):
        words = " ".join([function.__name__.replace("_", " "), *(f"({part})" for part in rest)])
        check(f"{where}: {words}", function, cluster, *rest)

    test(all_get_ready)
    if not all(pod.in_service.is_set() for pod in cluster.pods.values()):
        return
    test(each_pod_listens_where_its_manifest_says)
    test(transactions_and_inference_go_through)
    check(f"{where}: the demo passes", the_demo_passes, cluster, args.penstock)
    if cluster.secrets:
        test(nobody_without_a_key_speaks_to_nats)
    test(dashboards_have_data)
    test(liveness_never_depends_on_peers)
    sets = list(dict.fromkeys(pod.set for pod in cluster.pods.values()))
    if args.roll_out:
        for name in sets:
            # A roll-out of a single NATS server is an outage: its clients wait.
            if name != "nats" or len(cluster.of("nats")) > 1:
                test(a_roll_out_loses_nothing, name)
    if args.faults:
        for name in sets:
            # A single gateway that is gone serves nobody.
            if name not in ("nats", "gateway"):
                test(a_crash_loses_nothing, name)
        test(a_paused_pod_goes_on, "producer")
        test(a_pod_that_was_cut_off_comes_back, "producer")
        test(a_pod_that_was_cut_off_comes_back, "shard")
    test(roots_are_equal)
    usage(cluster)


if __name__ == "__main__":
    main()
