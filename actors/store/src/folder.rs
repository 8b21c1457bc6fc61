//! The folder: whose it is, which version wrote it, who has it open.
//!
//! ```text
//!   DIR/PENSTOCK   marker: the schema version; locked while open
//!   DIR/sled/      the database
//! ```

use crate::{Durability, SCHEMA_VERSION, StoreError};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MARKER: &str = "PENSTOCK";
const UNFINISHED: &str = "PENSTOCK.new";
const DATABASE: &str = "sled";

/// Longest wait for a database of this process that was dropped and is still closing. 5 s: what a last flush takes on
/// a loaded machine.
const CLOSING_MAX: Duration = Duration::from_secs(5);
/// Pause between two attempts.
const CLOSING_POLL: Duration = Duration::from_millis(5);
/// Pages of the database that are kept in memory, in bytes. What is read again and again (recent blocks, the head's state)
/// is in memory elsewhere, so this serves commits, which look at what they replace, and looks into the past.
const CACHE_BYTES: u64 = 32 << 20;

/// Whether the database's own lock is held. The folder is locked by then, so it can only be an earlier database of this
/// process: sled lets go of it when its last background thread ends, a moment after the drop. It tells so in words alone.
fn is_held(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(io) if io.to_string().contains("could not acquire lock"))
}

/// What the marker file says.
fn marker() -> String {
    format!("penstock store schema {SCHEMA_VERSION}\n")
}

/// A folder that is ours, locked until this is dropped.
pub(crate) struct Folder {
    database: PathBuf,
    _lock: File,
}

fn io(path: &Path) -> impl Fn(std::io::Error) -> StoreError + '_ {
    |source| StoreError::Io {
        path: path.into(),
        source,
    }
}

impl Folder {
    /// Takes a folder: a new or empty one is made ours, one of ours is checked and locked.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(io(dir))?;
        let path = dir.join(MARKER);
        if !path.exists() {
            make_marker(dir, &path)?;
        }
        let mut lock = File::open(&path).map_err(io(&path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(dir.into())),
            Err(TryLockError::Error(source)) => return Err(io(&path)(source)),
        }
        let mut text = String::new();
        lock.read_to_string(&mut text).map_err(io(&path))?;
        if text != marker() {
            return Err(match text.strip_prefix("penstock store schema ") {
                Some(found) => StoreError::Schema {
                    dir: dir.into(),
                    found: found.trim().into(),
                },
                None => StoreError::Foreign(dir.into()),
            });
        }
        let database = dir.join(DATABASE);
        fs::create_dir_all(&database).map_err(io(&database))?;
        remove_torn_snapshots(&database)?;
        Ok(Self {
            database,
            _lock: lock,
        })
    }

    /// Opens the database.
    pub(crate) fn database(&self, durability: Durability) -> Result<sled::Db, StoreError> {
        // Its background flush stays on: sled collects garbage there.
        let config = sled::Config::new()
            .path(&self.database)
            .cache_capacity(CACHE_BYTES)
            .temporary(durability == Durability::Nothing);
        let start = Instant::now();
        loop {
            match config.open() {
                Err(error) if is_held(&error) && start.elapsed() < CLOSING_MAX => {
                    std::thread::sleep(CLOSING_POLL);
                }
                result => return Ok(result?),
            }
        }
    }

    /// The database's main file, to sync: sled's own flush starts writing (`sync_file_range`) but does not wait for
    /// the disk's cache, so it survives a killed process and not a lost power supply.
    pub(crate) fn main_file(&self) -> Result<File, StoreError> {
        let path = self.database.join("db");
        File::open(&path).map_err(io(&path))
    }
}

/// Makes an empty folder ours. A process that is killed in between leaves a folder that still counts as empty.
fn make_marker(dir: &Path, path: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(dir).map_err(io(dir))? {
        if entry.map_err(io(dir))?.file_name() != UNFINISHED {
            return Err(StoreError::Foreign(dir.into()));
        }
    }
    let unfinished = dir.join(UNFINISHED);
    let mut file = File::create(&unfinished).map_err(io(&unfinished))?;
    file.write_all(marker().as_bytes())
        .map_err(io(&unfinished))?;
    file.sync_all().map_err(io(&unfinished))?;
    fs::rename(&unfinished, path).map_err(io(path))?;
    sync_dir(dir)
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let file = File::open(dir).map_err(io(dir))?;
    file.sync_all().map_err(io(dir))
}

/// A process that was killed while sled wrote a snapshot leaves a torn file, with which sled never opens again. The log
/// has all that is in it.
fn remove_torn_snapshots(database: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(database).map_err(io(database))? {
        let entry = entry.map_err(io(database))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            tracing::warn!(file = %name, "removing a torn snapshot of a killed process");
            fs::remove_file(entry.path()).map_err(io(&entry.path()))?;
        }
    }
    Ok(())
}
