//! What `penstock init` writes is a devnet: three "machines" on three loopback addresses, with the servers, keys,
//! permissions and certificates that it made. Nothing of it is changed but where files lie and which address is listened
//! on, since the three share one machine here.

use alloy_sol_types::{SolCall, SolEvent};
use penstock_tests::harness::cluster::{Kind, Member, nats_binary, until};
use penstock_tests::harness::{Probes, binary, close, float, probe, rows, wallets};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const HOSTS: [&str; 3] = ["127.0.77.1", "127.0.77.2", "127.0.77.3"];
/// Gas for a transaction with a call of a model.
const GAS: u64 = 16_000_000;

struct Machine {
    host: &'static str,
    dir: PathBuf,
    /// In place of `/etc/penstock` and `/var/lib/penstock`.
    etc: String,
    var: String,
}

impl Machine {
    /// A configuration file of this machine, for this place.
    fn file(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.dir.join(name)).expect(name);
        text.replace("/etc/penstock", &self.etc)
            .replace("/var/lib/penstock", &self.var)
            .replace("0.0.0.0", self.host)
            .replace("\"127.0.0.1", &format!("\"{}", self.host))
    }

    fn server(&self, binary: &Path) -> Server {
        let conf = self.dir.join("here.conf");
        std::fs::write(&conf, self.file("nats.conf")).expect("a file");
        let child = Command::new(binary)
            .arg("-c")
            .arg(&conf)
            .arg("-l")
            .arg(self.dir.join("nats.log"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server starts");
        Server(child)
    }
}

struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_machines_come_up_from_what_init_wrote_and_each_may_do_its_own_work_alone() {
    let Some(server) = nats_binary() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("testnet");
    let init = Command::new(binary())
        .args([
            "init",
            "--block-time",
            "500ms",
            "--hosts",
            &HOSTS.join(","),
            "--out",
        ])
        .arg(&out)
        .status()
        .expect("init runs");
    assert!(init.success());
    let machines = HOSTS.map(|host| {
        let dir = out.join(host);
        Machine {
            host,
            etc: dir.display().to_string(),
            var: folder.path().join(host).join("var").display().to_string(),
            dir,
        }
    });
    let _servers = machines.each_ref().map(|machine| machine.server(&server));
    let start = |machine: &Machine, kind: Kind| {
        let name = match kind {
            Kind::Node => "node",
            Kind::Shard => "shard",
        };
        let config = machine.file(&format!("{name}.toml"));
        Member::start(&folder.path().join(machine.host), name, kind, &config, &[])
    };
    let nodes = machines
        .each_ref()
        .map(|machine| start(machine, Kind::Node));
    let shards = machines
        .each_ref()
        .map(|machine| start(machine, Kind::Shard));
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
        .file("node.toml")
        .replace("[\"gateway\"]", "[\"producer\"]");
    let dir = folder.path().join("intruder");
    std::fs::create_dir_all(&dir).expect("a folder");
    let file = dir.join("penstock.toml");
    let config = config
        .replace("/node\"", "/intruder\"")
        .replace("9545", "9547");
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
