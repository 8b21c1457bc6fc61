//! Where keys come from. A configuration names the place of a secret, never the secret.

use crate::genesis;
use alloy_primitives::B256;
use eyre::{WrapErr, bail, eyre};
use penstock_evm::SigningKey;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The place of a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretSource {
    /// `env:NAME`: a variable of the environment.
    Env(String),
    /// `file:PATH`: the content of a file, without the blanks around it.
    File(PathBuf),
}

/// The place of a signing key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum KeySource {
    /// `derived:N`: the Nth key of this chain id and role. **Everybody can derive it.**
    Derived(u16),
    /// 32 bytes in hex.
    Secret(SecretSource),
}

impl FromStr for SecretSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(Self::Env(name.into())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            // The text may be a secret that somebody put here: it is not shown.
            _ => Err("write env:NAME or file:PATH; a secret itself does not belong here".into()),
        }
    }
}

impl FromStr for KeySource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("derived:") {
            Some(index) => index
                .parse()
                .map(Self::Derived)
                .map_err(|_| "derived: needs a number".into()),
            None => text.parse().map(Self::Secret),
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Derived(index) => write!(f, "derived:{index}"),
            Self::Secret(source) => source.fmt(f),
        }
    }
}

macro_rules! text_form {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(source: $type) -> Self {
                source.to_string()
            }
        }
    )*};
}

text_form!(SecretSource, KeySource);

impl SecretSource {
    /// The secret.
    ///
    /// # Errors
    /// Names the place where there is none.
    pub fn read(&self) -> eyre::Result<String> {
        let text = match self {
            Self::Env(name) => {
                std::env::var(name).wrap_err_with(|| format!("variable {name} has no secret"))?
            }
            Self::File(path) => std::fs::read_to_string(path)
                .wrap_err_with(|| format!("can't read the secret in {}", path.display()))?,
        };
        let text = text.trim();
        if text.is_empty() {
            bail!("the secret in {self} is empty");
        }
        Ok(text.to_owned())
    }
}

impl KeySource {
    /// The key, of a process with this role (`producer`, `shard`).
    ///
    /// # Errors
    /// Names the place where there is none, or none that is a key.
    pub fn signing_key(&self, chain_id: u64, role: &str) -> eyre::Result<SigningKey> {
        match self {
            Self::Derived(index) => Ok(genesis::devnet_key(chain_id, role, *index)),
            Self::Secret(source) => parse(&source.read()?)
                .ok_or_else(|| eyre!("{source} holds no key: 32 bytes in hex")),
        }
    }
}

/// A key of 32 bytes in hex; none where it is none.
#[must_use]
pub fn parse(text: &str) -> Option<SigningKey> {
    let secret: B256 = text.trim().parse().ok()?;
    SigningKey::new(secret).ok()
}

/// Reads a key's file.
///
/// # Errors
/// Names the file where it holds no key.
pub fn read(file: &Path) -> eyre::Result<SigningKey> {
    KeySource::Secret(SecretSource::File(file.into())).signing_key(0, "")
}

/// A new random key, in hex.
#[must_use]
pub fn random() -> String {
    loop {
        let secret = B256::random();
        // One in 2^128 is no key.
        if SigningKey::new(secret).is_ok() {
            return secret.to_string();
        }
    }
}

/// Writes a new random key to a file that only its owner can read.
///
/// # Errors
/// Where the file is there already, or can't be written.
pub fn create(file: &Path) -> eyre::Result<SigningKey> {
    write_secret(file, &format!("{}\n", random()))?;
    read(file)
}

/// Writes a file that only its owner can read, and that was not there.
///
/// # Errors
/// Where it is there already, or can't be written.
pub fn write_secret(file: &Path, text: &str) -> eyre::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut out = options
        .open(file)
        .wrap_err_with(|| format!("can't make {}", file.display()))?;
    out.write_all(text.as_bytes())
        .wrap_err_with(|| format!("can't write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn places_are_read_as_they_are_written_and_secrets_are_refused() {
        for text in ["derived:3", "env:NAME", "file:/etc/key"] {
            let source: KeySource = text.parse().expect(text);
            assert_eq!(source.to_string(), text);
        }
        let secret = B256::repeat_byte(7).to_string();
        for text in [secret.as_str(), "derived:x", "env:", "file:", ""] {
            let error = text.parse::<KeySource>().expect_err(text);
            assert!(!error.contains(&secret), "{error}");
        }
    }

    #[test]
    fn a_new_key_is_its_owners_alone_and_is_not_written_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("key");
        let made = create(&file).expect("a key");
        assert_eq!(read(&file).expect("a key").address(), made.address());
        let mode = std::fs::metadata(&file)
            .expect("a file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(create(&file).is_err(), "it is there");
        assert_eq!(read(&file).expect("a key").address(), made.address());
    }
}
