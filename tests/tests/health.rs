//! Health and metrics of a devnet in one process, on a port of their own.

use alloy_provider::Provider;
use penstock_tests::harness::{Devnet, ask, wallets};
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
