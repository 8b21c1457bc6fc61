//! One line per run: `overload W1,W2 value,tip 100,200 SEEDS [blocks]`.
// A tool for people: it may look at the clock.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]
use penstock_rules::scheduler::Policy;
use penstock_sim::overload::{Config, Workload, run, table};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let list = |n: usize, default: &str| -> Vec<String> {
        let text = args.get(n).map_or(default, String::as_str);
        text.split(',').map(str::to_lowercase).collect()
    };
    let seeds: u64 = args.get(4).map_or(1, |s| s.parse().expect("seeds"));
    println!("{}", table(None));
    for workload in Workload::ALL {
        if !list(1, "w1").contains(&format!("{workload:?}").to_lowercase()) {
            continue;
        }
        for load in list(3, "100,200,1000") {
            for policy in [
                Policy::Value,
                Policy::Fifo,
                Policy::Tip,
                Policy::Density,
                Policy::Edf,
            ] {
                if !list(2, "value").contains(&format!("{policy:?}").to_lowercase()) {
                    continue;
                }
                for seed in 0..seeds {
                    let mut config =
                        Config::new(workload, policy, load.parse().expect("load"), seed);
                    if let Some(blocks) = args.get(5) {
                        config.blocks = blocks.parse().expect("blocks");
                    }
                    let start = std::time::Instant::now();
                    match run(&config) {
                        Ok(report) => {
                            println!(
                                "{} {:.1}s",
                                table(Some((&config, &report))),
                                start.elapsed().as_secs_f64()
                            );
                            if std::env::var("V").is_ok() {
                                println!("{report:?}");
                            }
                        }
                        Err(broken) => println!("{config:?}: {broken}"),
                    }
                }
            }
        }
    }
}
