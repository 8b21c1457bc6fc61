//! The mode `fast`: near the exact answers on every backend, and never taken for one.

use penstock_shaders::verify::Case;
use penstock_shaders::{Executor, Limits, Mode, Model, adapters, cpu, fast, gpu};
use std::path::{Path, PathBuf};

fn backends() -> Vec<Box<dyn Executor>> {
    let mut all = vec![cpu()];
    for adapter in adapters() {
        all.push(gpu(Some(&adapter.name)).unwrap_or_else(|e| panic!("{}: {e}", adapter.name)));
    }
    let required = std::env::var_os("PENSTOCK_REQUIRE_GPU").is_some_and(|v| v == "1");
    assert!(!required || all.len() > 1, "there is no vulkan adapter");
    all
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    Case::folders(&folder).expect("fixtures")
}

#[test]
fn fast_answers_are_near_the_exact_ones_on_every_backend() {
    let mut backends = backends();
    let mut other_bits = 0;
    for path in cases() {
        let case = Case::read(&path).expect("a case");
        let exact = Model::load(&case.model, &Limits::default()).expect("it loads");
        let native = Model::load_fast(&case.model, &Limits::default()).expect("it loads");
        let port = &exact.signature().inputs[0];
        let input = vec![case.tensor(0, &port.name).expect("an input")];
        let run = |backend: &mut Box<dyn Executor>, model: &std::sync::Arc<Model>| {
            backend.prepare(model).expect("it fits");
            let outcomes = backend.run(&model.hash(), std::slice::from_ref(&input));
            outcomes.expect("it runs").remove(0)
        };
        let reference = run(&mut backends[0], &exact);
        for backend in &mut backends {
            let found = run(backend, &native);
            let distance = fast::distance(&reference, &found);
            assert!(
                distance.is_ok(),
                "{}: {distance:?} on {}",
                path.display(),
                backend.name()
            );
            other_bits += usize::from(found != reference);
        }
    }
    // Were it exact, nothing would have been computed otherwise.
    assert!(other_bits > 0);
}

#[test]
fn a_fast_model_is_not_the_files() {
    let path = &cases()[0];
    let case = Case::read(path).expect("a case");
    let exact = Model::load(&case.model, &Limits::default()).expect("it loads");
    let native = Model::load_fast(&case.model, &Limits::default()).expect("it loads");
    assert_ne!(native.hash(), exact.hash());
    assert_eq!(native.mode(), Mode::Fast);
    assert!(!native.mode().is_exact() && exact.mode().is_exact());
    assert_eq!(native.signature(), exact.signature());
}

#[test]
fn answers_that_are_far_apart_are_told() {
    use penstock_rules::request::{ModelError, Outcome};
    use penstock_rules::tensor::{Tensor, encode};
    let of = |value: f32| {
        let tensor = Tensor::from_f32_bits("y", &[1], [value.to_bits()]);
        Outcome::Output(encode(&[tensor]).into())
    };
    assert_eq!(fast::distance(&of(1.0), &of(1.0)), Ok(0.0));
    let near = fast::distance(&of(100.0), &of(100.01)).expect("within a ten-thousandth");
    assert!(near > 0.009 && near < 0.011);
    let far = fast::distance(&of(1.0), &of(1.002)).expect_err("twice what is allowed");
    assert!(far.contains("y[0]"), "{far}");
    let none = fast::distance(&of(1.0), &Outcome::Failed(ModelError::NotFinite));
    assert!(none.is_err());
}
