//! What tests need of the machine. Where it is missing they say so and are skipped, unless `tests/run.sh` asks for it.

use penstock_wire::server::{NatsServer, ServerConfig};
use penstock_wire::{FoundServer, find_server};
use std::path::PathBuf;

fn required(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}

/// A nats-server of the test's own, in a folder that goes with it.
///
/// # Panics
/// Where `PENSTOCK_REQUIRE_NATS=1` and there is none, or it does not start.
pub async fn nats_server() -> Option<(NatsServer, tempfile::TempDir)> {
    match find_server(None) {
        Ok(FoundServer::Binary(binary)) => {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let config = ServerConfig::new(binary, folder.path());
            let server = NatsServer::start(config).await.expect("nats-server starts");
            Some((server, folder))
        }
        found => {
            assert!(!required("PENSTOCK_REQUIRE_NATS"), "{found:?}");
            println!("skipped: {found:?}");
            None
        }
    }
}

/// Whether a Vulkan driver is here, a software driver included.
///
/// # Panics
/// Where `PENSTOCK_REQUIRE_GPU=1` and there is none.
#[must_use]
pub fn gpu_is_here() -> bool {
    let here = !penstock_shaders::adapters().is_empty();
    assert!(
        here || !required("PENSTOCK_REQUIRE_GPU"),
        "no Vulkan driver: apt-get install libvulkan1 mesa-vulkan-drivers"
    );
    if !here {
        println!("skipped: no Vulkan driver");
    }
    here
}

/// A folder of models with magika's as `filetype.onnx`: `tests/run.sh` takes it from PyPI.
///
/// # Panics
/// Where `PENSTOCK_REQUIRE_MAGIKA=1` and `PENSTOCK_TEST_MODELS` names no such folder.
#[must_use]
pub fn magika() -> Option<PathBuf> {
    let folder = std::env::var_os("PENSTOCK_TEST_MODELS").map(PathBuf::from);
    let folder = folder.filter(|folder| folder.join("filetype.onnx").is_file());
    assert!(
        folder.is_some() || !required("PENSTOCK_REQUIRE_MAGIKA"),
        "PENSTOCK_TEST_MODELS names no folder with filetype.onnx"
    );
    if folder.is_none() {
        println!("skipped: PENSTOCK_TEST_MODELS names no folder with filetype.onnx (PyPI magika)");
    }
    folder
}
