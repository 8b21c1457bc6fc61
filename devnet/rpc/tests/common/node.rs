//! A server over the chain, and what it answers.

use super::FakeChain;
use penstock_rpc::{DevAccounts, ServerConfig, ServerHandle, serve};
use serde_json::Value;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server over a fake chain.
pub struct Node {
    pub chain: Arc<FakeChain>,
    pub server: ServerHandle,
}

impl Node {
    /// With genesis alone.
    pub async fn start() -> Self {
        Self::with(ServerConfig::default()).await
    }

    /// With these limits, on a free port.
    pub async fn with(config: ServerConfig) -> Self {
        let chain = FakeChain::new();
        let accounts = DevAccounts::from_mnemonic(DevAccounts::MNEMONIC, 10).expect("valid");
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            ..config
        };
        let server = serve(
            config,
            chain.clone(),
            chain.clone(),
            chain.clone(),
            accounts,
        )
        .await
        .expect("a free port");
        Self { chain, server }
    }

    /// One HTTP exchange: status line and headers, and body.
    pub async fn http(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.server.addr())
            .await
            .expect("listens");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("utf-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_lowercase(), body.to_owned())
    }

    /// Posts a body as JSON.
    pub async fn post(&self, body: &str) -> (String, String) {
        self.http(&format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://example.org\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    /// The whole answer to one request.
    pub async fn answer(&self, method: &str, params: Value) -> Value {
        let request =
            serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (_, body) = self.post(&request.to_string()).await;
        serde_json::from_str(&body).expect("json")
    }

    /// The result of one request, which must succeed.
    pub async fn result(&self, method: &str, params: Value) -> Value {
        let mut answer = self.answer(method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    /// The error of one request, which must fail.
    pub async fn error(&self, method: &str, params: Value) -> Value {
        let mut answer = self.answer(method, params).await;
        assert!(answer.get("result").is_none(), "{method}: {answer}");
        answer["error"].take()
    }
}
