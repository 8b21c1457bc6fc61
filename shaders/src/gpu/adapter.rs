//! The adapters of this machine.

use super::{AdapterKind, AdapterReport, GpuError};

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    descriptor.flags = wgpu::InstanceFlags::empty();
    wgpu::Instance::new(descriptor)
}

pub(super) fn report(adapter: &wgpu::Adapter) -> AdapterReport {
    let info = adapter.get_info();
    AdapterReport {
        name: info.name,
        driver: format!("{} {}", info.driver, info.driver_info)
            .trim()
            .to_owned(),
        backend: info.backend.to_string(),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Other,
        },
    }
}

fn enumerate() -> Vec<wgpu::Adapter> {
    let instance = instance();
    pollster::block_on(instance.enumerate_adapters(wgpu::Backends::all()))
}

/// The adapters of this machine, best first.
pub fn adapters() -> Vec<AdapterReport> {
    let mut reports: Vec<AdapterReport> = enumerate().iter().map(report).collect();
    reports.sort_by_key(|r| r.kind);
    reports
}

/// The best adapter whose name or driver holds `selector`.
pub(super) fn best(selector: Option<&str>) -> Result<wgpu::Adapter, GpuError> {
    let wanted = selector.unwrap_or_default().to_lowercase();
    enumerate()
        .into_iter()
        .filter(|adapter| {
            let report = report(adapter);
            format!("{} {}", report.name, report.driver)
                .to_lowercase()
                .contains(&wanted)
        })
        .min_by_key(|adapter| report(adapter).kind)
        .ok_or_else(|| GpuError::NoAdapter(selector.unwrap_or("any").into()))
}
