//! Which adapter to hash on.
//!
//! ```text
//!  0  NVIDIA ...    discrete       ◄── Choice::default(): the first hardware adapter, discrete ones first
//!  1  AMD ...       integrated     ◄── "amd" or "1"
//!  2  llvmpipe ...  software       ◄── only if software is asked for
//! ```
//!
//! Nothing here panics or fails hard on a machine without a GPU, a driver or a Vulkan loader: there
//! are no adapters then, with the reason.

use crate::kernels::{MOST_LANES, MOST_PARAMETERS, WORKGROUP_BYTES};
use hedgerow_hasher_device::Limits;
use std::fmt;

/// An adapter that wgpu knows, usable or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// By which it can be chosen: its place in the list.
    pub index: usize,
    /// The device's name as its driver tells it.
    pub name: String,
    /// The interface and the driver.
    pub driver: String,
    /// Whether it is a program that runs on the CPU.
    pub software: bool,
    /// Why it cannot be used, if so.
    pub unusable: Option<String>,
}

impl fmt::Display for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.driver)
    }
}

/// Which adapter is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Its index, or a part of its name in any case. `None`: the first, discrete ones first.
    pub adapter: Option<String>,
    /// Look among software adapters, and only there.
    pub software: bool,
}

impl Choice {
    /// A software adapter, for tests.
    pub fn software() -> Self {
        Self { adapter: None, software: true }
    }

    /// Whether `adapter` is what is wanted, if it is usable.
    fn fits(&self, adapter: &Adapter) -> bool {
        let named = self.adapter.as_deref().is_none_or(|wanted| match wanted.parse::<usize>() {
            Ok(index) => adapter.index == index,
            Err(_) if wanted.is_empty() => false,
            Err(_) => adapter.name.to_lowercase().contains(&wanted.to_lowercase()),
        });
        named && adapter.software == self.software
    }
}

/// Why there is no hasher.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// wgpu finds nothing to run on.
    #[error("no GPU adapter: {reason}")]
    NoAdapter {
        /// What it says: drivers or loaders that are missing.
        reason: String,
    },
    /// There are adapters, but not the wanted one.
    #[error("no GPU adapter is what was asked for; there are: {there}")]
    NotFound {
        /// Those that there are, and why each is not it.
        there: String,
    },
    /// The adapter was found but cannot be used.
    #[error("the GPU adapter {adapter} cannot be used: {reason}")]
    Unusable {
        /// Its name.
        adapter: String,
        /// What it lacks.
        reason: String,
    },
    /// The adapter should work but its set-up failed.
    #[error("the GPU adapter {adapter} failed at set-up: {reason}")]
    Setup {
        /// Its name.
        adapter: String,
        /// What it said.
        reason: String,
    },
}

/// All adapters, discrete GPUs first and software last. Empty if there is none; [`crate::open`]
/// says why.
pub fn adapters() -> Vec<Adapter> {
    found(&instance()).into_iter().map(|(adapter, _)| adapter).collect()
}

/// wgpu without validation layers and debug labels, which ask for extra software, and without
/// environment variables.
fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::PRIMARY,
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

fn found(instance: &wgpu::Instance) -> Vec<(Adapter, wgpu::Adapter)> {
    let mut all = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::PRIMARY));
    all.sort_by_key(|adapter| rank(adapter.get_info().device_type));
    let described = |(index, adapter): (usize, wgpu::Adapter)| {
        let info = adapter.get_info();
        let described = Adapter {
            index,
            name: info.name,
            driver: format!("{:?}, {} {}", info.backend, info.driver, info.driver_info)
                .trim_end()
                .to_owned(),
            software: info.device_type == wgpu::DeviceType::Cpu,
            unusable: unusable(&adapter.limits(), adapter.features()),
        };
        (described, adapter)
    };
    all.into_iter().enumerate().map(described).collect()
}

/// The order of adapters: what usually hashes faster comes first.
fn rank(device_type: wgpu::DeviceType) -> u8 {
    match device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::VirtualGpu => 1,
        wgpu::DeviceType::IntegratedGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

/// What the kernels need that an adapter lacks.
fn unusable(limits: &wgpu::Limits, features: wgpu::Features) -> Option<String> {
    if !features.contains(wgpu::Features::IMMEDIATES) {
        return Some("it has no immediate data (push constants)".into());
    }
    let buffer = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    let needs = [
        ("bytes of immediate data", limits.max_immediate_size.into(), MOST_PARAMETERS.into()),
        ("buffers per kernel", limits.max_storage_buffers_per_shader_stage.into(), 3),
        ("bytes per buffer", buffer, Limits::LEAST_BUFFER),
        (
            "lanes per work group",
            limits
                .max_compute_invocations_per_workgroup
                .min(limits.max_compute_workgroup_size_x)
                .into(),
            MOST_LANES.into(),
        ),
        (
            "bytes that a work group shares",
            limits.max_compute_workgroup_storage_size.into(),
            WORKGROUP_BYTES.into(),
        ),
        ("work groups", limits.max_compute_workgroups_per_dimension.into(), u64::from(u16::MAX)),
    ];
    needs
        .into_iter()
        .find(|(_, has, needs)| has < needs)
        .map(|(what, has, needs)| format!("it takes {has} {what}, {needs} are needed"))
}

/// The adapter that [`crate::open`] would take, without opening it.
///
/// # Errors
/// All of [`OpenError`] but `Setup`.
pub fn find(choice: &Choice) -> Result<Adapter, OpenError> {
    choose(choice).map(|(adapter, _)| adapter)
}

/// The wanted adapter.
///
/// # Errors
/// All of [`OpenError`] but `Setup`.
pub(crate) fn choose(choice: &Choice) -> Result<(Adapter, wgpu::Adapter), OpenError> {
    let instance = instance();
    let all = found(&instance);
    if all.is_empty() {
        return Err(OpenError::NoAdapter { reason: why_none(&instance) });
    }
    let fitting = |(adapter, _): &&(Adapter, wgpu::Adapter)| choice.fits(adapter);
    let usable = |(adapter, _): &&(Adapter, wgpu::Adapter)| adapter.unusable.is_none();
    let chosen = all.iter().filter(fitting).find(usable).or_else(|| all.iter().find(fitting));
    let Some((adapter, handle)) = chosen else {
        let there = all.iter().map(|(adapter, _)| why_not(adapter, choice));
        return Err(OpenError::NotFound { there: there.collect::<Vec<_>>().join("; ") });
    };
    match &adapter.unusable {
        Some(reason) => {
            Err(OpenError::Unusable { adapter: adapter.to_string(), reason: reason.clone() })
        }
        None => Ok((adapter.clone(), handle.clone())),
    }
}

fn why_not(adapter: &Adapter, choice: &Choice) -> String {
    let Adapter { index, .. } = adapter;
    match (adapter.software, choice.software) {
        (true, false) => format!("{index}: {adapter}, a software adapter, which must be asked for"),
        (false, true) => format!("{index}: {adapter}, no software adapter"),
        _ => format!("{index}: {adapter}"),
    }
}

/// Why wgpu has no adapter at all.
fn why_none(instance: &wgpu::Instance) -> String {
    let options = wgpu::RequestAdapterOptions::default();
    match pollster::block_on(instance.request_adapter(&options)) {
        Err(error) => error.to_string(),
        Ok(_) => "it came only now".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(index: usize, name: &str, software: bool) -> Adapter {
        Adapter { index, name: name.into(), driver: "d".into(), software, unusable: None }
    }

    #[test]
    fn adapters_are_chosen_by_index_or_part_of_their_name() {
        let all = [adapter(0, "Tesla T4", false), adapter(1, "llvmpipe 15", true)];
        let fitting = |wanted: Option<&str>, software| {
            let choice = Choice { adapter: wanted.map(Into::into), software };
            all.iter().filter(|adapter| choice.fits(adapter)).map(|a| a.index).collect::<Vec<_>>()
        };
        assert_eq!(fitting(None, false), [0]);
        assert_eq!(fitting(None, true), [1]);
        assert_eq!(fitting(Some("tesla"), false), [0]);
        assert_eq!(fitting(Some("0"), false), [0]);
        assert_eq!(fitting(Some("1"), true), [1]);
        // A software adapter is not what somebody gets who asks for adapter 1 or for this name.
        assert!(fitting(Some("1"), false).is_empty());
        assert!(fitting(Some("llvmpipe"), false).is_empty());
        assert!(fitting(Some("T40"), false).is_empty());
        assert!(fitting(Some(""), false).is_empty());
        assert!(why_not(&all[1], &Choice::default()).contains("must be asked for"));
    }

    #[test]
    fn what_an_adapter_lacks_is_named() {
        let features = wgpu::Features::IMMEDIATES;
        let mut limits = wgpu::Limits { max_immediate_size: 64, ..wgpu::Limits::default() };
        assert_eq!(unusable(&limits, features), None);
        assert!(unusable(&limits, wgpu::Features::empty()).unwrap().contains("immediate"));
        limits.max_compute_workgroup_storage_size = 12_000;
        let why = unusable(&limits, features).unwrap();
        assert!(why.contains("12000") && why.contains("12288"), "{why}");
    }
}
