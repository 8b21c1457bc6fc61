//! A WebSocket client.

use super::Node;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// How long a message that must come may take, in seconds.
const PATIENCE: u64 = 10;

/// A WebSocket client.
pub struct Ws(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Ws {
    pub async fn connect(node: &Node) -> Self {
        let url = format!("ws://{}", node.server.addr());
        Self(connect_async(url).await.expect("same port as HTTP").0)
    }

    pub async fn next(&mut self) -> Value {
        loop {
            let next = tokio::time::timeout(Duration::from_secs(PATIENCE), self.0.next());
            let message = next.await.expect("in time").expect("open").expect("sound");
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).expect("json");
            }
        }
    }

    pub async fn send(&mut self, value: Value) {
        let text = value.to_string();
        self.0.send(Message::text(text)).await.expect("open");
    }

    pub async fn result(&mut self, method: &str, params: Value) -> Value {
        self.send(json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }))
            .await;
        self.next().await["result"].take()
    }

    /// What a subscription says next.
    pub async fn notified(&mut self, subscription: &Value) -> Value {
        let mut message = self.next().await;
        let method = message["method"].as_str().unwrap_or_default();
        assert!(method.ends_with("_subscription"), "{message}");
        assert_eq!(&message["params"]["subscription"], subscription);
        message["params"]["result"].take()
    }
}
