//! Holds the borders of `devnet/docs/architecture.md`: who may depend on whom, and who alone uses what.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Package, and the packages of ours that it may depend on.
const BORDERS: &[(&str, &[&str])] = &[
    ("penstock-rules", &[]),
    ("penstock-sim", &["penstock-rules"]),
    ("penstock-evm", &["penstock-rules"]),
    ("penstock-wire", &["penstock-rules"]),
    ("penstock-store", &["penstock-rules"]),
    ("penstock-shaders", &["penstock-rules"]),
    ("penstock-rpc", &["penstock-rules"]),
    (
        "penstock-actors",
        &[
            "penstock-rules",
            "penstock-evm",
            "penstock-wire",
            "penstock-store",
            "penstock-shaders",
            "penstock-rpc",
        ],
    ),
];

/// Dependency, and the one package that may use it.
const SOLE_USERS: &[(&str, &str)] = &[
    ("revm", "penstock-evm"),
    ("async-nats", "penstock-wire"),
    ("bincode", "penstock-wire"),
    ("sled", "penstock-store"),
    ("wgpu", "penstock-shaders"),
    ("jsonrpsee", "penstock-rpc"),
];

/// What the machines are built on, and nothing else.
const RULES_DEPENDENCIES: &[&str] = &["alloy-primitives", "alloy-rlp", "serde", "thiserror"];

/// What the simulator is built on, and nothing else.
const SIM_DEPENDENCIES: &[&str] = &["alloy-primitives", "penstock-rules", "thiserror"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
        .to_path_buf()
}

/// Package name to its dependencies that are not for tests alone.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo metadata runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata is json");
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| {
            let deps = package["dependencies"].as_array().expect("dependencies");
            let names = deps
                .iter()
                .filter(|dep| dep["kind"].as_str() != Some("dev"))
                .map(|dep| dep["name"].as_str().expect("a name").to_owned())
                .collect();
            (package["name"].as_str().expect("a name").to_owned(), names)
        })
        .collect()
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn packages_depend_on_each_other_as_the_table_says() {
    let all = dependencies();
    for (package, allowed) in BORDERS {
        let ours: Vec<_> = all[*package]
            .iter()
            .filter(|d| d.starts_with("penstock"))
            .filter(|d| !allowed.contains(&d.as_str()))
            .collect();
        assert!(ours.is_empty(), "{package} must not depend on {ours:?}");
    }
    let known: BTreeSet<_> = BORDERS
        .iter()
        .map(|(p, _)| *p)
        .chain(["penstock", "penstock-tests"])
        .collect();
    let found: BTreeSet<_> = all.keys().map(String::as_str).collect();
    assert_eq!(found, known, "the table names every package");
}

#[test]
fn each_heavy_library_has_one_user() {
    for (package, deps) in dependencies() {
        for (library, user) in SOLE_USERS {
            assert!(
                !deps.contains(*library) || package == *user,
                "{package} must not use {library}: {user} does"
            );
        }
    }
}

#[test]
fn machines_and_simulator_are_built_on_nothing_that_could_make_them_impure() {
    let all = dependencies();
    for (package, folder, allowed) in [
        ("penstock-rules", "actors/rules", RULES_DEPENDENCIES),
        ("penstock-sim", "actors/sim", SIM_DEPENDENCIES),
    ] {
        let allowed: BTreeSet<_> = allowed.iter().map(|d| (*d).to_owned()).collect();
        assert_eq!(all[package], allowed, "{package}");
        let folder = root().join(folder);
        let lib = std::fs::read_to_string(folder.join("src/lib.rs")).expect("lib.rs");
        for lint in ["float_arithmetic", "disallowed_types", "disallowed_methods"] {
            let lint = format!("clippy::{lint}");
            assert!(lib.contains(&lint), "{package} denies {lint}");
        }
        assert!(folder.join("clippy.toml").exists(), "{package} bans types");
    }
}

#[test]
fn shells_never_ignore_the_capacity_of_a_mailbox() {
    let mut files = Vec::new();
    rust_files(&root().join("actors/src"), &mut files);
    rust_files(&root().join("devnet"), &mut files);
    assert!(files.len() > 5, "shells were found");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a source file");
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            assert!(
                !code.contains(".do_send("),
                "{}:{}: do_send ignores the mailbox's capacity",
                file.display(),
                number + 1
            );
        }
    }
}

/// A shell listens through `shell::listen`, which waits for a bus that is away, or gives the error to whoever starts it.
/// One that panicked ended each node that was cut off while it took over.
#[test]
fn shells_wait_for_a_bus_that_is_away() {
    let mut files = Vec::new();
    rust_files(&root().join("actors/src"), &mut files);
    let mut listens = 0;
    for file in files.iter().filter(|file| !file.ends_with("shell.rs")) {
        let text = std::fs::read_to_string(file).expect("a source file");
        for (number, line) in text.lines().enumerate() {
            if !line.contains("bus.subscribe(") && !line.contains("bus.serve(") {
                continue;
            }
            listens += 1;
            assert!(
                line.contains("listen(") || line.trim_end().ends_with(".await?;"),
                "{}:{}: it does not wait",
                file.display(),
                number + 1
            );
        }
    }
    assert!(listens > 5, "subscriptions were found");
}

#[test]
fn release_builds_end_the_process_on_a_panic() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let release = manifest
        .split("[profile.release]")
        .nth(1)
        .expect("a release profile");
    let release = release.split("\n[").next().expect("its lines");
    assert!(release.contains("panic = \"abort\""));
}

/// Files that the architecture page names in backticks and with an extension exist.
#[test]
fn the_architecture_page_names_only_what_exists() {
    let page = std::fs::read_to_string(root().join("devnet/docs/architecture.md"))
        .expect("the architecture page");
    let named: BTreeSet<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|name| name.contains('/') && !name.contains(' ') && !name.contains('*'))
        .collect();
    assert!(named.len() > 15, "the page names files: {named:?}");
    for name in named {
        assert!(root().join(name).exists(), "{name} does not exist");
    }
}
