//! `penstock status` and `penstock drain`: over a process's health port.

use crate::cli::{HealthArgs, StatusArgs};
use crate::health::ask;
use crate::peers::Status;
use eyre::WrapErr;
use hyper::Method;
use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

/// How often `--watch` asks.
const WATCH: Duration = Duration::from_secs(1);

/// Prints a table of the devnet's processes.
///
/// # Errors
/// Where the process does not answer.
pub async fn run(args: &StatusArgs) -> eyre::Result<()> {
    loop {
        let json = ask(&args.health.url, Method::GET, "/status").await?;
        if args.json {
            println!("{json}");
        } else {
            let status: Status = serde_json::from_str(&json)
                .wrap_err("the process says nothing of the devnet yet")?;
            if args.watch && std::io::stdout().is_terminal() {
                // To the corner, and what was there is gone.
                print!("\x1b[H\x1b[2J");
            }
            print!("{}", table(&status));
        }
        if !args.watch {
            return Ok(());
        }
        tokio::time::sleep(WATCH).await;
    }
}

/// Has a process drain.
///
/// # Errors
/// Where it does not answer.
pub async fn drain(args: &HealthArgs) -> eyre::Result<()> {
    ask(&args.url, Method::POST, "/drain").await?;
    println!("{} drains, and ends when it is done", args.url);
    Ok(())
}

fn table(status: &Status) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_table(&mut out, status);
    out
}

fn write_table(out: &mut String, status: &Status) -> std::fmt::Result {
    writeln!(out, "asked {}; ready: {}\n", status.name, status.ready)?;
    if !status.nodes.is_empty() {
        writeln!(
            out,
            "{:<16} {:>9} {:>4} {:>9} {:>7}  {:<40} head",
            "node", "height", "lag", "epoch", "heard", "roles (* leads)"
        )?;
    }
    for node in &status.nodes {
        let roles: Vec<_> = node
            .roles
            .iter()
            .map(|role| match node.leads.contains(role) {
                true => format!("{}*", role.name()),
                false => role.name().to_owned(),
            })
            .collect();
        let known = |number: Option<u64>| number.map_or_else(|| "-".into(), |n| n.to_string());
        writeln!(
            out,
            "{:<16} {:>9} {:>4} {:>9} {:>5}ms  {:<40} {}{}",
            node.name,
            node.height,
            known(node.lag),
            known(node.epoch),
            node.heard_ms,
            roles.join(" "),
            node.hash.get(..10).unwrap_or_default(),
            if node.draining { "  drains" } else { "" },
        )?;
    }
    if !status.shards.is_empty() {
        writeln!(
            out,
            "\n{:<42} {:>6} {:>4} {:>7}  backend",
            "shard", "models", "held", "heard"
        )?;
    }
    for shard in &status.shards {
        writeln!(
            out,
            "{:<42} {:>6} {:>4} {:>5}ms  {}{}",
            shard.shard,
            shard.models,
            shard.held,
            shard.heard_ms,
            shard.backend,
            if shard.draining { "  drains" } else { "" },
        )?;
    }
    Ok(())
}
