//! What `penstock init` writes is a devnet: three "machines" on three loopback addresses, with the servers, keys,
//! permissions and certificates that it made. Nothing of it is changed but where files lie and which address is listened
//! on, since the three share one machine here.

use alloy_sol_types::{SolCall, SolEvent};
use penstock_tests::harness::cluster::{Kind, nats_binary, until};
use penstock_tests::harness::testnet::{Machine, init};
use penstock_tests::harness::{Probes, binary, close, float, probe, rows, wallets};
use std::process::Command;

const HOSTS: [&str; 3] = ["127.0.77.1", "127.0.77.2", "127.0.77.3"];
/// Gas for a transaction with a call of a model.
const GAS: u64 = 16_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn three_machines_come_up_from_what_init_wrote_and_each_may_do_its_own_work_alone() {
    let Some(server) = nats_binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let machines = init(folder.path(), &HOSTS, "500ms");
    let serve = |machine: &Machine| machine.serve(&server, &machine.host, &[]);
    let _servers: Vec<_> = machines.iter().map(serve).collect();
    let start = |machine: &Machine, kind: Kind| {
        let name = match kind {
            Kind::Node => format!("node-{}", machine.host),
            Kind::Shard => format!("shard-{}", machine.host),
        };
        machine.start(kind, &name, &machine.host, &[])
    };
    let nodes: Vec<_> = machines.iter().map(|m| start(m, Kind::Node)).collect();
    let shards: Vec<_> = machines.iter().map(|m| start(m, Kind::Shard)).collect();
    for member in nodes.iter().chain(&shards) {
        until(&format!("{} is ready", member.name), || {
            member.is_ready().then_some(())
        });
    }

    // The third machine is a gateway alone: transactions, blocks and inference cross all permissions.
    let provider = nodes[2].provider();
    let mut alice = wallets(1).remove(0);
    let (input, rows) = rows("risk");
    let fan = alice
        .deploy(&provider, probe("Fanout", "risk", &input))
        .await;
    let call = Probes::fanCall {
        row: rows[0].input.clone(),
        calls: 1u64.try_into().expect("one"),
    };
    let asked = alice
        .send(&provider, Some(fan), call.abi_encode().into(), GAS)
        .await;
    let mut logs = asked.logs().iter();
    let answer = logs.find_map(|log| Probes::Answer::decode_log(&log.inner).ok());
    let answer = answer.expect("an answer");
    assert!(close(float(answer.value, answer.decimals), rows[0].output));
    for member in nodes.iter().chain(&shards) {
        let log = member.log();
        assert!(!log.contains("denies permission"), "{}: {log}", member.name);
    }

    // With the gateway's credentials a process can't be a producer, and hears it at once.
    let config = machines[2]
        .file("node.toml", "intruder", HOSTS[2])
        .replace("[\"gateway\"]", "[\"producer\"]")
        .replace("9545", "9547");
    let file = folder.path().join("intruder.toml");
    std::fs::write(&file, config).expect("a file");
    let refused = Command::new(binary())
        .args(["node", "--config"])
        .arg(&file)
        .output()
        .expect("it runs");
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("publish to"), "{said}");
}
