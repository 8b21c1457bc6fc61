//! Health and metrics of a devnet in one process, on a port of their own.

use alloy_provider::Provider;
use penstock_tests::harness::{Devnet, ask, binary, wallets};
use serde_json::Value;
use std::net::TcpListener;

/// A port that nobody has now.
fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

#[tokio::test]
async fn a_devnet_tells_how_it_is_and_ends_when_it_is_drained() {
    let port = free_port().to_string();
    let mut devnet = Devnet::start(&["--health-port", &port]);
    let addr = format!("127.0.0.1:{port}");
    let get = |path: &str| ask(&addr, "GET", path).expect("an answer");
    assert_eq!(get("/health/live").0, 200);
    let mut wallet = wallets(1).remove(0);
    let to = wallet.address();
    let sent = wallet.sign(Some(to), 1, Default::default(), 21_000);
    let provider = devnet.provider();
    provider
        .raw_request::<_, Value>("eth_sendRawTransactionSync".into(), (sent.raw,))
        .await
        .expect("a receipt");
    // The process looks at itself a few times a second.
    let mut ready = get("/health/ready");
    for _ in 0..100 {
        if ready.0 == 200 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        ready = get("/health/ready");
    }
    assert_eq!(ready, (200, "ready\n".into()));
    let (code, metrics) = get("/metrics");
    assert_eq!(code, 200);
    for name in ["follower_head_height", "mempool_accepted_total"] {
        assert!(metrics.contains(name), "{name} is not in:\n{metrics}");
    }
    let status: Value = serde_json::from_str(&get("/status").1).expect("json");
    assert_eq!(status["nodes"][0]["leads"], serde_json::json!(["producer"]));
    assert_eq!(get("/nonsense").0, 404);
    assert_eq!(
        ask(&addr, "POST", "/drain").map(|(code, _)| code),
        Some(202)
    );
    assert!(devnet.ended().success());
}

/// Somebody else has the port beside JSON-RPC's. One that was named is no wish: the devnet says that it is taken.
#[test]
fn a_taken_port_for_health_stops_a_devnet_only_where_it_was_named() {
    // A pair of ports that are free, and the upper one taken at once.
    let (port, taken) = (0..100)
        .find_map(|_| {
            let port = free_port();
            let beside = port.checked_add(1_000)?;
            let taken = TcpListener::bind(("127.0.0.1", beside)).ok()?;
            Some((port, taken))
        })
        .expect("a free pair");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ready = folder.path().join("ready");
    let up = |more: &[&str]| {
        let mut command = std::process::Command::new(binary());
        command
            .args(["up", "--quiet", "--backend", "cpu", "--port"])
            .arg(port.to_string())
            .arg("--ready-file")
            .arg(&ready)
            .args(more)
            .env("PENSTOCK_LOG", "warn")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        command
    };
    let mut devnet = up(&[]).spawn().expect("the binary starts");
    let started = (0..1_200).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        ready.exists() || devnet.try_wait().is_ok_and(|ended| ended.is_some())
    });
    devnet.kill().expect("it can be killed");
    let output = devnet.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(started && ready.exists(), "{text}");
    let named = taken.local_addr().expect("an address").to_string();
    assert!(text.contains(&named), "{text}");
    let named_port = taken.local_addr().expect("an address").port().to_string();
    let output = up(&["--health-port", &named_port]).output();
    let output = output.expect("it ends");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(&named), "{text}");
}
