//! `penstock doctor`: what this machine has.

use penstock_shaders::adapters;
use penstock_wire::{FoundServer, find_server};

/// Prints what was found, and how to get what was not.
///
/// # Errors
/// Never: what is missing is part of the answer.
pub fn run() -> eyre::Result<()> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "processor     {threads} threads, {}",
        std::env::consts::ARCH
    );
    let adapters = adapters();
    if adapters.is_empty() {
        println!("vulkan        none: inference runs on the processor");
        println!("              (software driver: apt-get install libvulkan1 mesa-vulkan-drivers)");
    }
    for adapter in adapters {
        println!(
            "vulkan        {}, {}, {:?}",
            adapter.name, adapter.driver, adapter.kind
        );
    }
    match find_server(None) {
        Ok(FoundServer::Url(url)) => println!("nats-server   at {url}"),
        Ok(FoundServer::Binary(path)) => println!("nats-server   {}", path.display()),
        Err(error) => println!("nats-server   none ({error})"),
    }
    Ok(())
}
