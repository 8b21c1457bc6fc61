//! What `penstock key kubernetes` writes: every key of a testnet on Kubernetes, as one Secret.
//!
//! ```text
//!   ROLE.nk          seed of the NATS user of all nodes with this role: gateway, mempool, scheduler, producer
//!   producer-N.key   signs blocks
//!   shard-N.key      signs answers
//!   shard-N.nk       seed of the shard's NATS user: it may speak as this shard alone
//!   genesis.json     knows the addresses of all producers and shards
//!   users.conf       the NATS users and what each may say and hear, for the servers
//! ```
//!
//! One Secret, so that it is made whole or not at all. What is there is kept: running again changes nothing, and makes
//! again only what was taken out.

use super::{User, cant_write, texts};
use crate::config::Config;
use crate::genesis::{self, PRODUCER_KEYS, SHARD_KEYS};
use crate::keys;
use crate::models::{self, LoadedModel};
use eyre::{WrapErr, bail, eyre};
use penstock_evm::{Genesis, SigningKey};
use penstock_rules::ids::ShardId;
use penstock_wire::nats::{NatsRole, NatsUser, permissions};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Name of the Secret.
pub const SECRET: &str = "penstock-keys";

/// Roles of nodes, as a pod's set is called, and what each may do on the servers.
const ROLES: [(&str, NatsRole); 4] = [
    ("gateway", NatsRole::Reader),
    ("mempool", NatsRole::Node),
    ("scheduler", NatsRole::Node),
    ("producer", NatsRole::Node),
];

/// The entries, by name: those of `kept`, and new ones in the place of what is missing.
struct Keyring<'a> {
    kept: &'a BTreeMap<String, String>,
    entries: BTreeMap<String, String>,
}

impl Keyring<'_> {
    fn take(&mut self, name: String, new: impl FnOnce() -> String) -> String {
        let text = self.kept.get(&name).cloned().unwrap_or_else(new);
        self.entries.insert(name, text.clone());
        text
    }

    fn signer(&mut self, name: &str) -> eyre::Result<SigningKey> {
        let file = format!("{name}.key");
        let text = self.take(file.clone(), keys::random);
        keys::parse(&text).ok_or_else(|| eyre!("{file} holds no key: 32 bytes in hex"))
    }

    fn user(&mut self, name: &str) -> eyre::Result<NatsUser> {
        let file = format!("{name}.nk");
        let text = self.take(file.clone(), || NatsUser::new().seed().reveal().to_owned());
        NatsUser::from_seed(text.trim()).ok_or_else(|| eyre!("{file} holds no seed of a NATS user"))
    }
}

/// Writes the Secret's manifest (JSON, a `List` of one) to `out`, which may be written over. `keep` is a folder where an
/// earlier Secret is mounted; it may be empty or absent.
///
/// # Errors
/// Names the entry or the file that is wrong, and the genesis that does not know the keys.
pub fn write(config: &Config, keep: Option<&Path>, out: &Path) -> eyre::Result<()> {
    let models = models::load(config.inference.models.as_deref(), true)?;
    let kept = keep.map(read).transpose()?.unwrap_or_default();
    let entries = entries(config, &models, &kept)?;
    let list = json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [{
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": SECRET, "labels": { "app.kubernetes.io/part-of": "penstock" } },
            "type": "Opaque",
            "stringData": entries,
        }],
    });
    // It may lie there from an earlier try of the same pod.
    match fs::remove_file(out) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).wrap_err_with(|| cant_write(out));
        }
        _ => {}
    }
    keys::write_secret(out, &format!("{list:#}\n"))
}

fn entries(
    config: &Config,
    models: &[LoadedModel],
    kept: &BTreeMap<String, String>,
) -> eyre::Result<BTreeMap<String, String>> {
    let mut ring = Keyring {
        kept,
        entries: BTreeMap::new(),
    };
    let mut users = Vec::new();
    for (role, may) in ROLES {
        users.push(User {
            public: ring.user(role)?.public(),
            may: permissions(may, config.chain.id, &texts::inbox(role, "pod")),
        });
    }
    let mut producers = Vec::new();
    for index in 0..PRODUCER_KEYS {
        producers.push(ring.signer(&format!("producer-{index}"))?.address());
    }
    let mut shards = Vec::new();
    for index in 0..SHARD_KEYS {
        let name = format!("shard-{index}");
        let shard = ShardId(ring.signer(&name)?.address());
        users.push(User {
            public: ring.user(&name)?.public(),
            may: permissions(
                NatsRole::Shard(shard),
                config.chain.id,
                &texts::inbox(&name, "pod"),
            ),
        });
        shards.push(shard);
    }
    let genesis = match kept.get("genesis.json") {
        Some(json) => {
            let genesis: Genesis =
                serde_json::from_str(json).wrap_err("genesis.json is no genesis")?;
            if genesis.spec.producers != producers || genesis.shards != shards {
                bail!(
                    "genesis.json does not know these keys of producers and shards: they belong to one chain, \
                     so take them out together, and start the chain anew"
                );
            }
            json.clone()
        }
        None => {
            let infos = models.iter().map(LoadedModel::info).collect();
            let accounts = genesis::accounts(config)?.addresses();
            let mut genesis = genesis::genesis(config, &accounts, infos);
            genesis.spec.producers = producers;
            // Keys that everybody can derive count for nothing here.
            genesis.shards = shards;
            serde_json::to_string_pretty(&genesis)?
        }
    };
    ring.entries.insert("genesis.json".into(), genesis);
    ring.entries
        .insert("users.conf".into(), texts::users_conf(&users));
    Ok(ring.entries)
}

/// Files of a mounted Secret. Kubernetes' own entries begin with dots.
fn read(folder: &Path) -> eyre::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    // What can't be read must not be taken for nothing: new keys would stand in the place of the old.
    if !folder
        .try_exists()
        .wrap_err_with(|| format!("can't read {}", folder.display()))?
    {
        return Ok(files);
    }
    for entry in
        fs::read_dir(folder).wrap_err_with(|| format!("can't read {}", folder.display()))?
    {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with('.') && path.is_file() {
            let text = fs::read_to_string(&path)
                .wrap_err_with(|| format!("can't read {}", path.display()))?;
            files.insert(name.into_owned(), text);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(kept: &BTreeMap<String, String>) -> eyre::Result<BTreeMap<String, String>> {
        entries(&Config::default(), &[], kept)
    }

    #[test]
    fn what_is_there_is_kept_and_what_was_taken_out_is_made_again() {
        let first = made(&BTreeMap::new()).expect("keys");
        assert_eq!(
            first.len(),
            ROLES.len() + usize::from(PRODUCER_KEYS) + 2 * usize::from(SHARD_KEYS) + 2
        );
        assert_eq!(made(&first).expect("keys"), first);

        // A NATS user is replaced, and the servers' list names the new one.
        let mut rotated = first.clone();
        rotated.remove("gateway.nk");
        let second = made(&rotated).expect("keys");
        assert_ne!(second["gateway.nk"], first["gateway.nk"]);
        assert_ne!(second["users.conf"], first["users.conf"]);
        let public = NatsUser::from_seed(&second["gateway.nk"])
            .expect("a seed")
            .public();
        assert!(second["users.conf"].contains(&public));
        assert_eq!(second["genesis.json"], first["genesis.json"]);
    }

    #[test]
    fn a_signing_key_that_genesis_does_not_know_is_refused() {
        let mut broken = made(&BTreeMap::new()).expect("keys");
        broken.remove("shard-3.key");
        let error = made(&broken).expect_err("another key");
        assert!(error.to_string().contains("genesis.json"), "{error}");
        broken.insert("shard-3.key".into(), "no key".into());
        let error = made(&broken).expect_err("no key");
        assert!(error.to_string().contains("shard-3.key"), "{error}");
    }

    #[test]
    fn a_file_in_the_place_of_the_kept_folder_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let absent = folder.path().join("absent");
        assert_eq!(read(&absent).expect("nothing is kept"), BTreeMap::new());
        let file = folder.path().join("file");
        fs::write(&file, "no folder").expect("a file");
        let error = read(&file).expect_err("no folder");
        assert!(error.to_string().contains("file"), "{error}");
    }

    #[test]
    fn genesis_knows_the_keys_and_none_that_everybody_can_derive() {
        let made = made(&BTreeMap::new()).expect("keys");
        let genesis: Genesis = serde_json::from_str(&made["genesis.json"]).expect("genesis");
        let address = |name: &str| keys::parse(&made[name]).expect("a key").address();
        assert_eq!(genesis.spec.producers[0], address("producer-0.key"));
        assert_eq!(genesis.shards[15], ShardId(address("shard-15.key")));
        let derived = genesis::producer_key(genesis.spec.chain_id, 0).address();
        assert!(!genesis.spec.producers.contains(&derived));
    }
}
