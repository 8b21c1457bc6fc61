//! A device that is lost: replaced where it comes back, and by the CPU where it does not.

use super::*;
use crate::limits::Limits;
use penstock_rules::request::Outcome;
use penstock_rules::tensor::Tensor;

/// The model of dense layers, and a request for it.
fn perceptron() -> (Arc<Model>, Vec<Tensor>) {
    let file = include_bytes!("../../../tests/fixtures/mlp/model.onnx");
    let model = Model::load(file, &Limits::default()).expect("it loads");
    let values = (0..64).map(|i| (i as f32 / 7.0 - 4.0).to_bits());
    let input = Tensor::from_f32_bits(&model.signature().inputs[0].name, &[1, 64], values);
    (model, vec![input])
}

/// The backend on the best adapter, or `None` as in [`device`].
fn backend() -> Option<Gpu> {
    device().map(|_| Gpu::open(None, None).expect("the device opens again"))
}

/// What the CPU answers.
fn by_cpu(model: &Arc<Model>, request: &[Tensor]) -> Vec<Outcome> {
    let mut cpu = crate::cpu();
    cpu.prepare(model).expect("it fits");
    cpu.run(&model.hash(), &[request.to_vec()])
        .expect("it runs")
}

/// The words of a run of the backend itself.
fn run(gpu: &mut Gpu, model: &Arc<Model>, request: &[Tensor]) -> Result<Vec<u32>, EngineError> {
    let shapes: Vec<Vec<u32>> = request.iter().map(|t| t.shape.clone()).collect();
    let plan = model.plan(&shapes).expect("a plan");
    let mut words = Vec::new();
    crate::onnx::widen_into(request[0].element, &request[0].data, &mut words);
    let mut outputs = vec![Vec::new()];
    gpu.execute(model, &plan, &[words], &mut outputs)?;
    Ok(outputs.swap_remove(0))
}

#[test]
fn a_device_that_is_lost_between_runs_is_replaced_and_the_run_replayed() {
    let Some(mut gpu) = backend() else { return };
    let (model, request) = perceptron();
    gpu.load(&model).expect("it fits");
    let before = run(&mut gpu, &model, &request).expect("it runs");
    for _ in 0..2 {
        gpu.device.destroy();
        let after = run(&mut gpu, &model, &request).expect("a new device runs it");
        assert_eq!(after, before);
        assert!(!gpu.device.is_lost(), "it is a new device");
        assert_eq!(gpu.models.len(), 1, "the weights are on it");
    }
}

#[test]
fn a_device_that_is_lost_before_a_model_comes_is_replaced() {
    let Some(mut gpu) = backend() else { return };
    let (model, request) = perceptron();
    gpu.device.destroy();
    gpu.load(&model).expect("a new device takes it");
    run(&mut gpu, &model, &request).expect("and runs it");
    assert!(!gpu.device.is_lost());
}

#[test]
fn where_no_device_comes_back_the_cpu_goes_on_and_says_so() {
    let Some(mut gpu) = backend() else { return };
    let (model, request) = perceptron();
    gpu.load(&model).expect("it fits");
    // The adapter is gone for good, as after a driver that does not come back.
    gpu.selector = Some("an adapter that was taken out".into());
    gpu.device.destroy();
    assert!(matches!(
        run(&mut gpu, &model, &request),
        Err(EngineError::Device(reason)) if reason.contains("taken out")
    ));
    let mut both = crate::with_fallback(Box::new(Batcher::new(gpu)), crate::cpu());
    both.prepare(&model).expect("the cpu holds it");
    let found = both
        .run(&model.hash(), std::slice::from_ref(&request))
        .expect("the cpu runs it");
    assert_eq!(found, by_cpu(&model, &request));
    assert!(
        both.name().contains("in place of a failed device"),
        "{}",
        both.name()
    );
}
