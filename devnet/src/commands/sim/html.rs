//! The report of `penstock sim overload`: one HTML page with its plots as SVG, readable without a network.

use super::overload::{Runs, mean, summary};
use penstock_rules::scheduler::Policy;
use penstock_sim::overload::{Report, Workload};
use plotters::prelude::*;
use std::collections::BTreeMap;

/// Pixels of a plot.
const SIZE: (u32, u32) = (560, 340);

/// Points of one line, by its name.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

/// The page.
///
/// # Errors
/// Where a plot can't be drawn.
pub(super) fn page(runs: &Runs) -> eyre::Result<String> {
    let mut body = format!(
        "<h1>penstock sim overload</h1>\n<pre>{}</pre>\n",
        summary(runs)
    );
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
            ours(runs, workload, widths),
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

/// The part of the transactions of each width that got into a block.
fn widths(reports: &[Report]) -> Vec<(f64, f64)> {
    let mut sums: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for (width, share) in reports.iter().flat_map(|r| &r.by_width) {
        let sum = sums.entry(*width).or_default();
        *sum = (sum.0 + share.asked, sum.1 + share.included);
    }
    sums.into_iter()
        .map(|(width, (asked, included))| (width as f64, included as f64 / asked.max(1) as f64))
        .collect()
}

/// The part of the included that waited at most so many blocks.
fn waits(reports: &[Report]) -> Vec<(f64, f64)> {
    let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
    for (blocks, count) in reports.iter().flat_map(|r| &r.waits) {
        *sums.entry(*blocks).or_default() += count;
    }
    let all: u64 = sums.values().sum();
    let mut passed = 0;
    sums.into_iter()
        .map(|(blocks, count)| {
            passed += count;
            (blocks as f64, passed as f64 / all.max(1) as f64)
        })
        .collect()
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
        let page = page(&runs).expect("it is drawn");
        assert_eq!(page.matches("<svg").count(), 5);
        assert!(page.contains("tip") && page.contains("0.9000") && page.contains("1.00x"));
    }
}
