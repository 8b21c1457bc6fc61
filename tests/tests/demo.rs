//! `penstock demo` over the real binary: the same answers, in every bit, on every transport and backend.

use penstock::demo::{Report, SceneReport};
use penstock_tests::harness::{Devnet, gpu_is_here, magika, nats_server, penstock};

/// Transactions to each contract: enough that shards batch, few enough for a slow machine.
const TRANSACTIONS: usize = 30;

fn demo(devnet: &Devnet) -> Report {
    let count = TRANSACTIONS.to_string();
    let args = ["demo", "--json", "--rpc-url"];
    let text = penstock(&[&args[..], &[&devnet.url(), "--transactions", &count]].concat());
    let report: Report = serde_json::from_str(&text).expect("a report");
    for scene in &report.scenes {
        assert_eq!(scene.transactions, scene.inferences, "{scene:?}");
        assert!(
            scene.blocks > 0 && scene.latency_blocks.median > 0,
            "{scene:?}"
        );
        // No batch is empty. A straggler's requests are asked of another shard too: then shards answer more than is read.
        assert!(
            scene.batches > 0 && scene.batches <= scene.answers,
            "{scene:?}"
        );
    }
    report
}

fn scene<'a>(report: &'a Report, contract: &str) -> &'a SceneReport {
    let mut scenes = report.scenes.iter();
    let scene = scenes.find(|scene| scene.contract == contract);
    scene.unwrap_or_else(|| panic!("no {contract} in {report:?}"))
}

#[tokio::test]
async fn the_demo_gives_equal_outcomes_on_every_transport_and_backend() {
    let folder = magika();
    let models = folder.as_ref().map(|folder| folder.to_string_lossy());
    let with = |args: &[&'static str]| {
        let mut all: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        if let Some(models) = &models {
            all.extend(["--models".to_owned(), models.to_string()]);
        }
        all
    };
    let run = |args: Vec<String>| {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        demo(&Devnet::start(&args))
    };
    let reference = run(with(&["--backend", "cpu"]));
    for contract in ["LoanBook", "ForecastFee"] {
        assert_eq!(scene(&reference, contract).transactions, TRANSACTIONS);
    }
    if folder.is_some() {
        let inbox = scene(&reference, "PngInbox");
        let accepted =
            "4 of 12 files accepted as PNG: chart-1.png, chart-2.png, chart-3.png, chart-4.png";
        assert_eq!(inbox.said, accepted);
    } else {
        assert_eq!(reference.skipped.len(), 1, "and it says so: {reference:?}");
    }
    let same = |report: Report, what: &str| {
        assert_eq!(report.outcomes, reference.outcomes, "{what}");
        assert_eq!(report.digest, reference.digest, "{what}");
    };
    if gpu_is_here() {
        same(run(with(&["--backend", "gpu"])), "memory and GPU");
    }
    if let Some((server, _folder)) = nats_server().await {
        let mut args = with(&["--backend", "cpu", "--nats"]);
        let url = args.iter().position(|arg| arg == "--nats").expect("given");
        args.insert(url + 1, server.url().to_owned());
        same(run(args), "NATS and CPU");
    }
}

#[test]
fn a_model_that_is_run_on_all_backends_has_one_hash_for_each_and_they_are_equal() {
    if !gpu_is_here() {
        return;
    }
    let file = penstock_tests::harness::repository().join("devnet/models/forecast.onnx");
    let said = penstock(&["model", "run", &file.to_string_lossy(), "--backend", "all"]);
    let outcomes: Vec<(&str, &str)> = said
        .lines()
        .filter_map(|line| line.strip_prefix("outcome")?.trim().split_once(' '))
        .collect();
    let on = |name: &str| outcomes.iter().any(|(_, on)| on.starts_with(name));
    assert!(on("(cpu") && on("(cpu portable") && on("(gpu"), "{said}");
    assert!(
        outcomes.iter().all(|(hash, _)| *hash == outcomes[0].0),
        "{said}"
    );
}

#[tokio::test]
async fn the_demo_says_what_is_wrong_with_its_devnet() {
    let output = std::process::Command::new(penstock_tests::harness::binary())
        .args(["demo", "--rpc-url", "http://127.0.0.1:1"])
        .output()
        .expect("the binary starts");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("127.0.0.1:1") && said.contains("penstock up"),
        "{said}"
    );
}
