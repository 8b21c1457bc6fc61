//! How to connect.

use super::NatsRole;
use alloy_primitives::B256;
use std::path::PathBuf;
use std::time::Duration;

/// Time that an append or a take-over is tried, in ms. Electing a new leader of an R3 stream takes 4 to 9 s, and up to
/// 15 s where faults follow each other.
const SETTLE_MS: u64 = 15_000;

/// A value that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Certificates for mutual TLS, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsTls {
    /// Who signed the server's certificate.
    pub ca: PathBuf,
    /// Ours.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// How to connect to a bus over NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsConfig {
    /// Servers, with commas between them, without credentials.
    pub url: String,
    /// User and password.
    pub user: Option<(String, Secret)>,
    /// Chain id: names subjects and streams.
    pub chain_id: u64,
    /// Genesis hash: pinned in the streams.
    pub genesis: B256,
    /// Name of this connection, for the server's operator.
    pub name: String,
    /// Copies of each stream: 1, 3 or 5. Only counts when a stream is made.
    pub replicas: usize,
    /// nkey seed of this user.
    pub nkey_seed: Option<Secret>,
    /// Prefix of reply addresses, for users whose permissions name one.
    pub inbox_prefix: Option<String>,
    /// What this process is: at connect, the server's permissions are compared with what that needs. None: they are
    /// not.
    pub role: Option<NatsRole>,
    /// Mutual TLS.
    pub tls: Option<NatsTls>,
    /// How long an append or take-over is tried before its outcome is called unknown.
    pub settle: Duration,
}

impl NatsConfig {
    /// One copy, with the credentials in the address, if there are any: `nats://user:password@host:port`. async-nats
    /// would ignore them.
    #[must_use]
    pub fn new(url: &str, chain_id: u64, genesis: B256) -> Self {
        let mut user = None;
        let bare = url.split(',').map(|url| {
            let url = url.trim();
            let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
            let Some((credentials, host)) = rest.rsplit_once('@') else {
                return format!("{scheme}://{rest}");
            };
            let (name, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            user = Some((name.to_owned(), Secret::new(password)));
            format!("{scheme}://{host}")
        });
        let url = bare.collect::<Vec<_>>().join(",");
        Self {
            url,
            user,
            chain_id,
            genesis,
            name: "penstock".into(),
            replicas: 1,
            nkey_seed: None,
            inbox_prefix: None,
            role: None,
            tls: None,
            settle: Duration::from_millis(SETTLE_MS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_in_no_debug_text() {
        let mut config = NatsConfig::new("nats://me:hunter2@x:1, y:2", 1, B256::ZERO);
        config.nkey_seed = Some(Secret::new("SUAXXXX"));
        let shown = format!("{config:?}");
        assert!(!shown.contains("SUAXXXX") && !shown.contains("hunter2"));
        assert_eq!(config.url, "nats://x:1,nats://y:2");
        assert_eq!(config.user, Some(("me".into(), Secret::new("hunter2"))));
    }
}
