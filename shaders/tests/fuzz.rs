//! Mutated models through importer and planner, and on through the CPU: no panic, and no memory beyond the limits.
//!
//! Every run has the same cases. `PENSTOCK_FUZZ_SECONDS=3600` goes on from them with other seeds for so long on the
//! processor, and prints how many cases there were, the slowest, and the most memory. `PENSTOCK_FUZZ_FROM=17` begins with
//! that seed.

use peak_alloc::PeakAlloc;
use penstock_shaders::verify::Case;
use penstock_shaders::{Limits, Model, cpu};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Cases of every run.
const CASES: u64 = 1_500;

/// Memory that a case may take, in bytes. The limits below allow 4 MiB of weights and as much of work and of each tensor;
/// constants stand in the file, in the graph and in prepared forms, and an analysis has one byte per word.
const BYTES_MAX: usize = 256 << 20;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

fn limits() -> Limits {
    Limits {
        file_bytes_max: 1 << 20,
        nodes_max: 1_000,
        tensors_max: 1_000,
        elements_max: 1 << 20,
        weight_words_max: 1 << 20,
        arena_words_max: 1 << 20,
        steps_max: 4_096,
        macs_max: 1 << 22,
        ..Limits::default()
    }
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Bytes that mean something on the wire or as numbers.
const TELLING: [u8; 12] = [0, 1, 2, 7, 8, 0x0a, 0x12, 0x7f, 0x80, 0x81, 0xfe, 0xff];

/// Changes a file in a few places; most changes are near its beginning or its end, where graphs and types stand, and few
/// in the middle of weights.
fn mutate(file: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    for _ in 0..1 + random.below(6) {
        let at = match random.below(3) {
            0 => random.below(file.len().min(600)),
            1 => file.len() - 1 - random.below(file.len().min(600)),
            _ => random.below(file.len()),
        };
        match random.below(7) {
            0 => file[at] ^= 1 << random.below(8),
            1 => file[at] = TELLING[random.below(TELLING.len())],
            2 => file[at] = random.next() as u8,
            3 => file.insert(at, TELLING[random.below(TELLING.len())]),
            4 => {
                let end = (at + 1 + random.below(8)).min(file.len());
                file.drain(at..end);
            }
            5 => {
                let end = (at + random.below(64)).min(file.len());
                let part = file[at..end].to_vec();
                file.splice(at..at, part);
            }
            _ => {
                let other = &others[random.below(others.len())];
                let from = random.below(other.len());
                let end = (from + random.below(64)).min(other.len());
                file.splice(at..at, other[from..end].iter().copied());
            }
        }
        if file.is_empty() {
            file.push(0);
        }
    }
}

/// Loads, and runs with zeros what loads.
fn case(file: &[u8], limits: &Limits) -> bool {
    let Ok(model) = Model::load(file, limits) else {
        return false;
    };
    let Ok(tensors) = zeros(&model) else {
        return true;
    };
    let mut executor = cpu();
    if executor.prepare(&model).is_ok() {
        let requests = vec![tensors.clone(), tensors];
        let outcomes = executor
            .run(&model.hash(), &requests)
            .expect("the cpu answers");
        assert_eq!(outcomes[0], outcomes[1], "one request, two outcomes");
    }
    true
}

fn zeros(model: &Model) -> Result<Vec<penstock_rules::tensor::Tensor>, ()> {
    let ports = &model.signature().inputs;
    ports
        .iter()
        .map(|port| {
            let shape: Vec<u32> = port.shape.iter().map(|&d| d.max(1)).collect();
            let count = shape
                .iter()
                .try_fold(port.element.size().ok_or(())? as u64, |n, &d| {
                    n.checked_mul(u64::from(d))
                        .filter(|n| *n < 1 << 22)
                        .ok_or(())
                })?;
            Ok(penstock_rules::tensor::Tensor {
                name: port.name.clone(),
                element: port.element,
                shape,
                data: vec![0; count as usize].into(),
            })
        })
        .collect()
}

/// The models of all cases below `root`.
fn models(root: &Path) -> Vec<Vec<u8>> {
    Case::folders(root)
        .expect("a folder of cases")
        .iter()
        .map(|folder| Case::read(folder).expect("a case").model)
        // Mutations of small files hit what matters more often.
        .filter(|file| file.len() < 200_000)
        .collect()
}

#[test]
fn mutated_models_never_break_the_importer_or_the_planner() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fuzz(&models(&root));
}

/// ONNX's own cases have every operator, with a node or two each (`PENSTOCK_ONNX_DATA`, as in `conformance.rs`).
#[test]
fn mutated_operators_never_break_the_importer_or_the_planner() {
    let Some(root) = std::env::var_os("PENSTOCK_ONNX_DATA") else {
        println!("PENSTOCK_ONNX_DATA is not set: no cases");
        return;
    };
    fuzz(&models(&PathBuf::from(root).join("node")));
}

/// One at a time: memory is counted for the process.
static ALONE: Mutex<()> = Mutex::new(());

/// Time that this thread ran; since `start`, by the clock, where the system does not tell.
fn spent(start: Instant) -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split_whitespace().next()?.parse().ok());
    nanos.map_or_else(|| start.elapsed(), Duration::from_nanos)
}

fn fuzz(files: &[Vec<u8>]) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let limits = limits();
    let asked = |name| std::env::var(name).ok().and_then(|s| s.parse().ok());
    let seconds: Option<u64> = asked("PENSTOCK_FUZZ_SECONDS");
    let start = Instant::now();
    let (mut loaded, mut slowest, mut peak) = (0u64, Duration::ZERO, 0);
    let mut broken = Vec::new();
    let first = asked("PENSTOCK_FUZZ_FROM").unwrap_or(1);
    let mut seed = first;
    loop {
        let more = seconds.is_some_and(|s| spent(start) < Duration::from_secs(s));
        if seed - first >= CASES && !more {
            break;
        }
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let mut file = files[random.below(files.len())].clone();
        mutate(&mut file, files, &mut random);
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        let begun = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| case(&file, &limits))) {
            Ok(true) => loaded += 1,
            Ok(false) => {}
            Err(_) => {
                println!("seed {seed} panicked");
                broken.push(seed);
            }
        }
        let mut took = begun.elapsed();
        let used = ALLOCATOR.peak_usage().saturating_sub(before);
        if took > slowest {
            // It may have waited for a processor, and does not wait again.
            let again = Instant::now();
            let _ = catch_unwind(AssertUnwindSafe(|| case(&file, &limits)));
            took = took.min(again.elapsed());
        }
        if took > slowest {
            slowest = took;
            println!("seed {seed}: {took:?}");
        }
        peak = peak.max(used);
        assert!(used <= BYTES_MAX, "seed {seed} took {used} bytes");
        seed += 1;
    }
    println!(
        "{} cases, {loaded} loaded, slowest {slowest:?}, most memory {peak} bytes, in {:?}",
        seed - first,
        start.elapsed()
    );
    assert!(broken.is_empty(), "seeds that panicked: {broken:?}");
    assert!(loaded > 0, "some mutations leave a model");
}
