//! The files' texts.

use super::{ETC, User, VAR};
use penstock_wire::codec::MESSAGE_BYTES_MAX;
use std::fmt::Write;

/// systemd unit of a NATS server. SIGUSR2 is its lame duck mode: it hands over what it leads, and ends.
pub(super) const NATS_UNIT: &str = "[Unit]
Description=NATS server of a Penstock devnet
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=/usr/local/bin/nats-server -c /etc/penstock/nats.conf
ExecStop=/bin/kill -USR2 $MAINPID
User=penstock
StateDirectory=penstock
LimitNOFILE=65536
TimeoutStopSec=150
Restart=always
RestartSec=2

[Install]
WantedBy=multi-user.target
";

/// systemd unit of a node. Exit code 3: it halted, and a person has to look.
pub(super) const NODE_UNIT: &str = "[Unit]
Description=Penstock node
After=network-online.target penstock-nats.service
Wants=network-online.target

[Service]
ExecStart=/usr/local/bin/penstock node --config /etc/penstock/node.toml
User=penstock
StateDirectory=penstock
Environment=PENSTOCK_LOG=info PENSTOCK_LOG_JSON=true
TimeoutStopSec=60
Restart=always
RestartSec=1
RestartPreventExitStatus=3

[Install]
WantedBy=multi-user.target
";

/// systemd unit of a shard.
pub(super) const SHARD_UNIT: &str = "[Unit]
Description=Penstock inference shard
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=/usr/local/bin/penstock shard --config /etc/penstock/shard.toml
User=penstock
Environment=PENSTOCK_LOG=info PENSTOCK_LOG_JSON=true
TimeoutStopSec=60
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
";

/// Prefix of a process's reply addresses. Tokens have no dots.
pub(super) fn inbox(host: &str, process: &str) -> String {
    format!("_INBOX_{process}_{}", host.replace('.', "-"))
}

fn urls(servers: &[String]) -> String {
    let urls: Vec<_> = servers.iter().map(|s| format!("nats://{s}:4222")).collect();
    urls.join(",")
}

fn tls(process: &str) -> String {
    format!(
        "[nats.tls]\nca = \"{ETC}/ca.pem\"\ncertificate = \"{ETC}/{process}.pem\"\nkey = \"{ETC}/{process}.pem.key\"\n"
    )
}

fn nats(host: &str, process: &str, servers: &[String]) -> String {
    format!(
        "[nats]\nurl = \"{}\"\nreplicas = {}\nnkey = \"file:{ETC}/{process}.nk\"\ninbox_prefix = \"{}\"\n\n{}",
        urls(servers),
        servers.len(),
        inbox(host, process),
        tls(process),
    )
}

/// `node.toml`.
pub(super) fn node_toml(host: &str, leads: bool, servers: &[String], block_time: &str) -> String {
    let (roles, key) = match leads {
        true => (
            "\"mempool\", \"scheduler\", \"producer\", \"gateway\"",
            format!("key = \"file:{ETC}/producer.key\"\n"),
        ),
        false => ("\"gateway\"", String::new()),
    };
    format!(
        "name = \"{host}\"\nroles = [{roles}]\ndata = \"{VAR}/node\"\n\n[chain]\ngenesis = \"{ETC}/genesis.json\"\n\n[rpc]\nhost = \"0.0.0.0\"\nport = 8545\n\n[producer]\nblock_time = \"{block_time}\"\n{key}\n{}\n[health]\nhost = \"127.0.0.1\"\nport = 9545\n",
        nats(host, "node", servers),
    )
}

/// `shard.toml`.
pub(super) fn shard_toml(host: &str, servers: &[String]) -> String {
    format!(
        "name = \"shard-{host}\"\n\n[chain]\ngenesis = \"{ETC}/genesis.json\"\n\n[shard]\nkey = \"file:{ETC}/shard.key\"\n\n[inference]\nbackend = \"auto\"\n\n{}\n[health]\nhost = \"127.0.0.1\"\nport = 9546\n",
        nats(host, "shard", servers),
    )
}

fn list(patterns: &[String]) -> String {
    let quoted: Vec<_> = patterns.iter().map(|p| format!("\"{p}\"")).collect();
    quoted.join(", ")
}

/// `nats.conf`: a server of the cluster, with every process of the devnet as a user.
pub(super) fn nats_conf(host: &str, servers: &[String], users: &[User]) -> String {
    let routes: Vec<_> = servers
        .iter()
        .filter(|server| *server != host)
        .map(|server| format!("\"nats-route://{server}:6222\""))
        .collect();
    let files = format!(
        "cert_file: \"{ETC}/nats.pem\", key_file: \"{ETC}/nats.pem.key\", ca_file: \"{ETC}/ca.pem\", verify: true"
    );
    let mut out = format!(
        "server_name: \"{host}\"\nlisten: \"0.0.0.0:4222\"\n# By name: servers tell each other and clients where they are, and certificates know no addresses.\nclient_advertise: \"{host}:4222\"\nhttp: \"127.0.0.1:8222\"\nmax_payload: {MESSAGE_BYTES_MAX}\n\n# A process whose machine is gone is noticed in seconds: until then requests still go to it.\nping_interval: \"2s\"\nping_max: 2\n\n# Each write is on disk before it is acknowledged: what was accepted survives a power cut of all machines.\njetstream {{ store_dir: \"{VAR}/nats\", sync_interval: always }}\n\ntls {{ {files} }}\n\ncluster {{\n  name: penstock\n  listen: \"0.0.0.0:6222\"\n  advertise: \"{host}:6222\"\n  routes: [{}]\n  ping_interval: 2s\n  tls {{ {files} }}\n}}\n\n",
        routes.join(", ")
    );
    out.push_str(&users_conf(users));
    out
}

/// The users of a server, with what each may say and hear.
pub(super) fn users_conf(users: &[User]) -> String {
    let mut out = String::from("authorization {\n  users: [\n");
    for user in users {
        let answers = match user.may.answers {
            true => "\n        allow_responses: true",
            false => "",
        };
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "    {{\n      nkey: {}\n      permissions {{\n        publish: {{ allow: [{}] }}\n        subscribe: {{ allow: [{}] }}{answers}\n      }}\n    }}\n",
            user.public,
            list(&user.may.publish),
            list(&user.may.subscribe),
        );
    }
    out + "  ]\n}\n"
}

/// The page.
pub(super) fn page(hosts: &[String]) -> String {
    let mut out = String::from(
        "# This devnet\n\nOne folder for each machine. It holds that machine's keys: copy it there, and nowhere else.\n\n| machine | runs |\n|---|---|\n",
    );
    for (index, host) in hosts.iter().enumerate() {
        let nats = match index < super::SERVERS {
            true => "NATS server, ",
            false => "",
        };
        let node = match index < super::LEADERS {
            true => "node (mempool, scheduler, producer, gateway)",
            false => "gateway",
        };
        let _ = writeln!(out, "| {host} | {nats}{node}, shard |");
    }
    out + "
On each machine, as root, with `penstock` and `nats-server` (`penstock install-nats`) in `/usr/local/bin`:

```sh
useradd --system penstock
install -d -o penstock -m 700 /etc/penstock
install -o penstock -m 600 HOST/* /etc/penstock/        # HOST: this machine's folder
cp HOST/penstock-*.service /etc/systemd/system/
systemctl daemon-reload
systemctl enable --now penstock-nats penstock-node penstock-shard
penstock status
```

A machine that is not among the first three has no `penstock-nats`.
Ports between the machines: 4222 (clients) and 6222 (cluster), both with mutual TLS; 8545 is JSON-RPC, without.
The servers' users are named by nkey and may say and hear what their role needs.
The funded accounts are those of the well-known test mnemonic: everybody has their keys.
"
}
