//! What a request costs in allocations on the CPU: its own request and outcome, nothing per step.

use penstock_rules::tensor::Tensor;
use penstock_shaders::{Limits, Model, cpu};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::PathBuf;

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    COUNT.with(|count| count.set(count.get() + 1));
}

// SAFETY: all work is the system allocator's; the counter is a plain thread-local without destructor, which allocates
// nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of a warm run at batch 1.
fn allocations(name: &str) -> usize {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let file = std::fs::read(folder.join(name).join("model.onnx")).expect("the model is there");
    let model = Model::load(&file, &Limits::default()).expect("the model loads");
    let port = &model.signature().inputs[0];
    let shape: Vec<u32> = port.shape.iter().map(|&d| d.max(1)).collect();
    let values = (0..shape.iter().product()).map(|i: u32| (i as f32 / 1e4).to_bits());
    let request = vec![vec![Tensor::from_f32_bits(&port.name, &shape, values)]];
    let mut executor = cpu();
    executor.prepare(&model).expect("the cpu holds it");
    let mut run = || {
        let before = COUNT.get();
        let outcomes = executor.run(&model.hash(), &request).expect("it runs");
        let count = COUNT.get() - before;
        drop(outcomes);
        count
    };
    run();
    run()
}

/// Allocations by which requests may differ: a longer outcome's encoding grows more often.
const SLACK: usize = 4;

#[test]
fn no_step_of_a_warm_run_allocates() {
    // A perceptron of 9 steps, convolutions of about 20, and a transformer of about 90: were a step to allocate, their
    // counts would be as far apart.
    let perceptron = allocations("mlp");
    assert!(perceptron > 0, "the outcome itself is allocated");
    assert!(
        perceptron <= 32,
        "the request and its outcome take {perceptron}"
    );
    for name in ["conv1d", "cnn", "transformer"] {
        let found = allocations(name);
        assert!(
            found <= perceptron + SLACK,
            "{name}: {found}, where a perceptron has {perceptron}"
        );
    }
}
