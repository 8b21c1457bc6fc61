//! Experiments: one thing is varied, and all else stays.

use super::curves::{by_width, certified, tenth, waits};
use super::{Results, mean};
use penstock_rules::scheduler::Policy;
use penstock_sim::overload::{Config, Delivery, Report, Workload};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Points of one line, by its name.
pub(in crate::commands::sim) type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// See the module.
pub(in crate::commands::sim) struct Experiment {
    points: Vec<Point>,
    views: Vec<View>,
}

/// A run of an experiment, over all seeds.
struct Point {
    line: String,
    x: f64,
    config: Config,
}

/// A plot of it.
pub(in crate::commands::sim) struct View {
    pub(in crate::commands::sim) title: &'static str,
    pub(in crate::commands::sim) x: &'static str,
    of: Of,
}

/// What a plot shows.
enum Of {
    /// A figure of each point.
    Figure(fn(&[Report]) -> f64),
    /// Lines that come of each point by itself, whose name is given.
    Lines(fn(&str, &[Report]) -> Lines),
}

/// Lines of policies and loads are compared at these, in percent; those of ours alone go on.
const LOADS: [u64; 6] = [50, 100, 150, 200, 500, 1_000];
const LOAD_MOST: u64 = 2_000;
const LOADS_SHORT: [u64; 2] = [100, 200];

/// Batches of a million that straggle, where some do.
pub(super) const STRAGGLERS: u32 = 2_000;

impl Experiment {
    /// The runs that it needs, by the first seed.
    pub(super) fn configs(&self) -> impl Iterator<Item = Config> + use<'_> {
        self.points.iter().map(|point| point.config)
    }

    /// Its plots, with their lines.
    pub(in crate::commands::sim) fn plots(
        &self,
        results: &Results,
    ) -> impl Iterator<Item = (&View, Lines)> {
        self.views.iter().map(|view| {
            let mut lines = Lines::new();
            for point in &self.points {
                let reports = results.of(&point.config);
                match view.of {
                    Of::Figure(figure) => {
                        let place = (point.x, figure(reports));
                        lines.entry(point.line.clone()).or_default().push(place);
                    }
                    Of::Lines(of) => lines.extend(of(&point.line, reports)),
                }
            }
            (view, lines)
        })
    }

    /// Its figures as tables: a row for each line.
    pub(super) fn tables(&self, results: &Results) -> String {
        let mut text = String::new();
        for (view, lines) in self.plots(results) {
            if !matches!(view.of, Of::Figure(_)) {
                continue;
            }
            let mut xs: Vec<f64> = lines.values().flatten().map(|point| point.0).collect();
            xs.sort_by(f64::total_cmp);
            xs.dedup();
            // Writing to a string can't fail.
            let _ = write!(text, "\n{}\n{:<28}", view.title, view.x);
            xs.iter().for_each(|x| {
                let _ = write!(text, "{x:>10}");
            });
            for (name, points) in &lines {
                let _ = write!(text, "\n{name:<28}");
                for x in &xs {
                    let _ = match points.iter().find(|point| point.0 == *x) {
                        Some((_, y)) => write!(text, "{y:>10.5}"),
                        None => write!(text, "{:>10}", "-"),
                    };
                }
            }
            text.push('\n');
        }
        text
    }
}

fn view(title: &'static str, x: &'static str, figure: fn(&[Report]) -> f64) -> View {
    let of = Of::Figure(figure);
    View { title, x, of }
}

fn curves(title: &'static str, x: &'static str, lines: fn(&str, &[Report]) -> Lines) -> View {
    let of = Of::Lines(lines);
    View { title, x, of }
}

fn revenue(reports: &[Report]) -> f64 {
    mean(reports, Report::revenue_share)
}

pub(super) fn useful(reports: &[Report]) -> f64 {
    mean(reports, |r| r.of_capacity(r.useful))
}

pub(super) fn lost(reports: &[Report]) -> f64 {
    mean(reports, |r| r.of_capacity(r.wasted + r.stale))
}

/// Broken promises in percent of those made.
fn broken(reports: &[Report]) -> f64 {
    mean(reports, Report::broken_share) * 100.0
}

/// All of them, from a run of [`Workload::W1`] under our policy at twice the capacity.
pub(in crate::commands::sim) fn all(base: &Config, short: bool) -> Vec<Experiment> {
    let loads = if short { &LOADS_SHORT[..] } else { &LOADS };
    let at = |load_percent: u64| Config {
        load_percent,
        ..*base
    };
    let ends = if short { [100, 200] } else { [200, 1_000] };
    let mut all = vec![
        policies(base, loads, short),
        lanes(base, loads),
        ablations(base, &ends),
    ];
    all.extend([tenths(base, &ends), widths(base, &ends)]);
    all.extend(margins(base, short));
    all.push(tickets(base, &ends, short));
    all.push(attackers(base, short));
    all.push(Experiment {
        points: loads
            .iter()
            .map(|&load| Point {
                line: named_load(load),
                x: 0.0,
                config: at(load),
            })
            .collect(),
        views: vec![curves(
            "what the scheduler certified of its bound, block by block",
            "block",
            certified,
        )],
    });
    all.push(deliveries(base));
    all
}

fn named_load(load: u64) -> String {
    format!("{:04.1}x", load as f64 / 100.0)
}

/// Revenue by load and policy, and what became of the shards' time.
fn policies(base: &Config, loads: &[u64], short: bool) -> Experiment {
    let mut points = Vec::new();
    for policy in Policy::ALL {
        let more = policy == Policy::Value && !short;
        for load_percent in loads.iter().copied().chain(more.then_some(LOAD_MOST)) {
            points.push(Point {
                line: format!("{policy:?}").to_lowercase(),
                x: load_percent as f64 / 100.0,
                config: Config {
                    policy,
                    load_percent,
                    ..*base
                },
            });
        }
    }
    Experiment {
        points,
        views: vec![
            view("revenue over the bound, by load", "load", revenue),
            view("useful shard time, by load", "load", useful),
            view("wasted and stale shard time, by load", "load", lost),
            view("broken promises in percent, by load", "load", broken),
            view(
                "Jain's index of fairness over senders with credit, by load",
                "load",
                |reports| mean(reports, |r| r.fairness),
            ),
        ],
    }
}

fn lanes(base: &Config, loads: &[u64]) -> Experiment {
    let mut points = Vec::new();
    for percent in [0, 5, 10, 20] {
        for &load_percent in loads {
            let mut config = Config {
                load_percent,
                ..*base
            };
            config.tuning.ticket_percent = percent;
            points.push(Point {
                line: format!("{percent:02} % for tickets"),
                x: load_percent as f64 / 100.0,
                config,
            });
        }
    }
    Experiment {
        points,
        views: vec![view(
            "revenue over the bound, by load and the part for tickets",
            "load",
            revenue,
        )],
    }
}

/// What single parts of the policy are good for, with stragglers.
fn ablations(base: &Config, loads: &[u64]) -> Experiment {
    let mut points = Vec::new();
    for &load_percent in loads {
        let full = Config {
            load_percent,
            stragglers_in_million: STRAGGLERS,
            ..*base
        };
        let (mut margin, mut hedging, mut tickets) = (full, full, full);
        margin.tuning.margin_sigmas = 0;
        hedging.tuning.hedge_percent = 0;
        tickets.tuning.ticket_percent = 0;
        for (line, config) in [
            ("all of it", full),
            ("no margin", margin),
            ("no doubling of stragglers", hedging),
            ("no tickets", tickets),
        ] {
            points.push(Point {
                line: line.into(),
                x: load_percent as f64 / 100.0,
                config,
            });
        }
    }
    Experiment {
        points,
        views: vec![
            view(
                "revenue over the bound without parts of the policy, with stragglers, by load",
                "load",
                revenue,
            ),
            view(
                "broken promises in percent without them, by load",
                "load",
                broken,
            ),
        ],
    }
}

/// When transactions are included, by what they bid.
fn tenths(base: &Config, loads: &[u64]) -> Experiment {
    let points = loads.iter().map(|&load_percent| Point {
        line: named_load(load_percent),
        x: 0.0,
        config: Config {
            load_percent,
            ..*base
        },
    });
    Experiment {
        points: points.collect(),
        views: vec![curves(
            "included after at most so many blocks, by tenth of the values",
            "blocks",
            |load, reports| {
                let every_third = (0..penstock_sim::overload::DECILES).step_by(3);
                every_third
                    .map(|n| (format!("{load}, tenth {}", n + 1), tenth(reports, n)))
                    .collect()
            },
        )],
    }
}

fn widths(base: &Config, loads: &[u64]) -> Experiment {
    let mut points = Vec::new();
    for workload in [Workload::W1, Workload::W7] {
        for &load_percent in loads {
            points.push(Point {
                line: format!("{workload:?}, {}", named_load(load_percent)),
                x: 0.0,
                config: Config {
                    workload,
                    load_percent,
                    ..*base
                },
            });
        }
    }
    Experiment {
        points,
        views: vec![curves(
            "included, by requests of the transaction",
            "requests",
            |line, reports| Lines::from([(line.to_owned(), by_width(reports))]),
        )],
    }
}

/// Promises, by the margin that is kept and by how many batches straggle.
fn margins(base: &Config, short: bool) -> [Experiment; 2] {
    let mut by_margin = Vec::new();
    let sigmas = if short {
        &[0, 4][..]
    } else {
        &[0, 1, 2, 3, 4, 5]
    };
    for (line, stragglers) in [("no stragglers", 0), ("2 of 1,000 straggle", STRAGGLERS)] {
        for &margin in sigmas {
            let mut config = Config {
                stragglers_in_million: stragglers,
                ..*base
            };
            config.tuning.margin_sigmas = margin;
            by_margin.push(Point {
                line: line.into(),
                x: margin as f64,
                config,
            });
        }
    }
    let rates = if short {
        &[0, 5_000][..]
    } else {
        &[0, 1_000, 2_000, 5_000, 10_000]
    };
    let by_rate = rates.iter().map(|&stragglers| Point {
        line: format!("{} deviations", base.tuning.margin_sigmas),
        x: f64::from(stragglers) / 1_000.0,
        config: Config {
            stragglers_in_million: stragglers,
            ..*base
        },
    });
    [
        Experiment {
            points: by_margin,
            views: vec![view(
                "broken promises in percent, by the margin",
                "deviations",
                broken,
            )],
        },
        Experiment {
            points: by_rate.collect(),
            views: vec![view(
                "broken promises in percent, by stragglers",
                "stragglers of 1,000 batches",
                broken,
            )],
        },
    ]
}

fn tickets(base: &Config, loads: &[u64], short: bool) -> Experiment {
    let mut points = Vec::new();
    let promised = if short { &[6, 8][..] } else { &[6, 8, 12, 16] };
    for &load_percent in loads {
        for &blocks in promised {
            let mut config = Config {
                load_percent,
                ..*base
            };
            config.tuning.ticket_blocks = blocks;
            points.push(Point {
                line: named_load(load_percent),
                x: blocks as f64,
                config,
            });
        }
    }
    Experiment {
        points,
        views: vec![
            view(
                "the longest wait with a ticket, by the blocks that it promises",
                "blocks promised",
                |reports| {
                    let waits = reports.iter().map(|r| r.figures.ticket_wait_most);
                    waits.max().unwrap_or(0) as f64
                },
            ),
            view(
                "late tickets, by the blocks that they promise",
                "blocks promised",
                |reports| reports.iter().map(|r| r.figures.late).sum::<u64>() as f64,
            ),
        ],
    }
}

/// What attackers cost the others. They pay nothing here, so what bounds them is their part of the time.
fn attackers(base: &Config, short: bool) -> Experiment {
    let mut points = Vec::new();
    let shares = if short {
        &[0, 20][..]
    } else {
        &[0, 10, 20, 30, 40]
    };
    for policy in [Policy::Value, Policy::Tip, Policy::Density, Policy::Fifo] {
        for &percent in shares {
            points.push(Point {
                line: format!("{policy:?}").to_lowercase(),
                x: f64::from(percent),
                config: Config {
                    workload: Workload::W9,
                    policy,
                    attackers_in_million: percent * 10_000,
                    ..*base
                },
            });
        }
    }
    Experiment {
        points,
        views: vec![
            view(
                "revenue of honest senders over the bound, by attackers",
                "attackers in percent of all transactions",
                revenue,
            ),
            view(
                "wasted and stale shard time, by attackers, who pay nothing for it",
                "attackers in percent of all transactions",
                lost,
            ),
        ],
    }
}

/// The same work, by how its answers reach their contracts.
fn deliveries(base: &Config) -> Experiment {
    let name = |delivery| match delivery {
        Delivery::Same => "in the transaction",
        Delivery::Oracle => "oracle, two transactions",
        Delivery::CommitFulfil => "commit, then fulfil",
    };
    let points = Delivery::ALL.into_iter().map(|delivery| Point {
        line: name(delivery).into(),
        x: 0.0,
        config: Config { delivery, ..*base },
    });
    Experiment {
        points: points.collect(),
        views: vec![curves(
            "included after at most so many blocks, by the way of the answer",
            "blocks",
            |line, reports| Lines::from([(line.to_owned(), waits(reports))]),
        )],
    }
}
