//! The report of `penstock sim overload`: one HTML page with its plots as SVG, readable without a network.

use super::fees;
use super::overload::{Lines, Planned, Results, Runs, Studied, by_width, mean, summary, waits};
use penstock_rules::scheduler::Policy;
use penstock_sim::overload::{Report, Workload};
use plotters::prelude::*;

/// Pixels of a plot.
const SIZE: (u32, u32) = (560, 340);

/// The page.
///
/// # Errors
/// Where a plot can't be drawn.
pub(super) fn page(
    runs: &Runs,
    studied: Option<&Studied>,
    results: &Results,
) -> eyre::Result<String> {
    let mut body = format!(
        "<h1>penstock sim overload</h1>\n<pre>{}</pre>\n",
        summary(runs)
    );
    if let Some(studied) = studied {
        body.push_str(&experiments(studied, results)?);
    }
    let workloads: Vec<Workload> = {
        let mut all: Vec<Workload> = runs.keys().map(|key| key.0).collect();
        all.dedup();
        all
    };
    for workload in workloads {
        body.push_str(&format!("<h2>{workload:?}: {}</h2>\n", workload.says()));
        let by_load = |figure: &dyn Fn(&[Report]) -> f64| {
            let mut lines = Lines::new();
            for ((_, load, policy), reports) in runs.iter().filter(|(key, _)| key.0 == workload) {
                let point = (*load as f64 / 100.0, figure(reports));
                lines.entry(name(*policy)).or_default().push(point);
            }
            lines
        };
        let revenue = by_load(&|r| mean(r, Report::revenue_share));
        body.push_str(&plot("revenue over the bound, by load", "load", revenue)?);
        let useful = by_load(&|r| mean(r, |r| r.of_capacity(r.useful)));
        body.push_str(&plot("useful shard time, by load", "load", useful)?);
        let broken = by_load(&|r| mean(r, Report::broken_share));
        body.push_str(&plot("broken promises, by load", "load", broken)?);
        body.push_str(&plot(
            "included, by requests of the transaction",
            "requests",
            ours(runs, workload, by_width),
        )?);
        body.push_str(&plot(
            "included after at most so many blocks",
            "blocks",
            ours(runs, workload, waits),
        )?);
    }
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>penstock sim overload</title>\n\
         <style>body{{font-family:sans-serif;margin:2em}}svg{{margin:4px}}</style>\n{body}</html>\n"
    ))
}

fn name(policy: Policy) -> String {
    format!("{policy:?}").to_lowercase()
}

/// One line per load, of the scheduler's own policy.
fn ours(runs: &Runs, workload: Workload, points: impl Fn(&[Report]) -> Vec<(f64, f64)>) -> Lines {
    runs.iter()
        .filter(|((w, _, policy), _)| *w == workload && *policy == Policy::Value)
        .map(|((_, load, _), reports)| {
            let load = *load as f64 / 100.0;
            (format!("{load:04.1}x"), points(reports))
        })
        .collect()
}

/// Experiments: their plots, and their tables.
fn experiments(studied: &Studied, results: &Results) -> eyre::Result<String> {
    let mut body = String::from("<h2>Experiments: one thing is varied</h2>\n");
    for experiment in &studied.experiments {
        for (view, lines) in experiment.plots(results) {
            body.push_str(&plot(view.title, view.x, lines)?);
        }
    }
    let blocks = |figure: fn(&fees::Taken) -> f64| -> Lines {
        let line = |step: &fees::Step| {
            let points = step.blocks.iter().map(figure).enumerate();
            let points = points.map(|(n, y)| (n as f64, y)).collect();
            (format!("to {:04.1}x", step.times), points)
        };
        studied.steps.iter().map(line).collect()
    };
    for (title, lines) in [
        (
            "the price over its floor, after a step of demand",
            blocks(|b| b.price),
        ),
        ("used part of blocks, after a step", blocks(|b| b.used)),
        (
            "logarithm (10) of one and those who would pay, in blocks that they fill",
            blocks(|b| (1.0 + b.eligible).log10()),
        ),
    ] {
        body.push_str(&plot(title, "blocks", lines)?);
    }
    let mut plans = Lines::new();
    for Planned {
        pending,
        shards,
        median,
        most,
    } in &studied.plans
    {
        for (name, time) in [("median", median), ("slowest", most)] {
            let point = ((*pending as f64).log10(), 1e3 * time.as_secs_f64());
            let line = format!("{shards:02} shards, {name}");
            plans.entry(line).or_default().push(point);
        }
    }
    body.push_str(&plot(
        "milliseconds of a full plan on this machine",
        "logarithm (10) of those who wait",
        plans,
    )?);
    body.push_str(&format!("<pre>{}</pre>\n", studied.text()));
    Ok(body)
}

/// A plot as SVG.
fn plot(title: &str, x: &str, lines: Lines) -> eyre::Result<String> {
    let mut svg = String::new();
    {
        let points = || lines.values().flatten();
        let left = points().map(|p| p.0).fold(f64::INFINITY, f64::min);
        let right = points().map(|p| p.0).fold(0.0, f64::max);
        let top = points().map(|p| p.1).fold(0.0, f64::max).max(1e-3);
        if !left.is_finite() {
            return Ok(svg);
        }
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 16))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(left..right.max(left + 1e-3), 0.0..top * 1.05)?;
        chart.configure_mesh().x_desc(x).draw()?;
        for (at, (name, points)) in lines.iter().enumerate() {
            let color = Palette99::pick(at).to_rgba();
            chart
                .draw_series(LineSeries::new(
                    points.iter().copied(),
                    color.stroke_width(2),
                ))?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new(vec![(x, y), (x + 16, y)], color.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .background_style(WHITE.mix(0.8))
            .border_style(BLACK)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_sim::overload::Config;

    #[test]
    fn a_report_has_a_plot_for_each_figure_and_names_its_runs() {
        let mut report = Report {
            capacity: 100,
            useful: 90,
            bound: 1_000,
            revenue: 900,
            ..Report::default()
        };
        report.waits.insert(0, 3);
        report.by_width.insert(1, Default::default());
        let runs = Runs::from([
            ((Workload::W1, 100, Policy::Value), vec![report.clone()]),
            ((Workload::W1, 200, Policy::Value), vec![report.clone()]),
            ((Workload::W1, 100, Policy::Tip), vec![report]),
        ]);
        let page = page(&runs, None, &Results::none()).expect("it is drawn");
        assert_eq!(page.matches("<svg").count(), 5);
        assert!(page.contains("tip") && page.contains("0.9000") && page.contains("1.00x"));
    }

    /// The short form of all experiments, over two blocks on three shards.
    #[test]
    fn experiments_have_their_plots_tables_and_targets() {
        let base = Config {
            blocks: 2,
            shards: 3,
            ..Config::new(Workload::W1, Policy::Value, 200, 9)
        };
        let (studied, results) = Studied::all(&base, true, 1).expect("no rule is broken");
        let page = page(&Runs::new(), Some(&studied), &results).expect("it is drawn");
        for title in [
            "revenue over the bound, by load",
            "useful shard time",
            "by tenth of the values",
            "by requests of the transaction",
            "by the margin",
            "by stragglers",
            "the longest wait with a ticket",
            "after a step of demand",
            "revenue of honest senders",
            "milliseconds of a full plan",
            "certified of its bound",
            "by the way of the answer",
            "fairness",
        ] {
            assert!(page.contains(title), "{title}");
        }
        let plots: Vec<&str> = page.split("<svg").skip(1).collect();
        assert_eq!(plots.len(), 22);
        assert!(plots.iter().all(|plot| plot.contains("<polyline")));
        let text = studied.text();
        // What needs ten times the capacity, or a large pool, is not in the short form; all else is said.
        let not_run: Vec<&str> = text.lines().filter(|l| l.contains("not run")).collect();
        assert!(
            not_run
                .iter()
                .all(|l| l.contains("10x") || l.contains("a plan for")),
            "{not_run:#?}"
        );
        assert!(text.contains("extra blocks at 2x, median: ours none"));
    }
}
