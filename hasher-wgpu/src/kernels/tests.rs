//! Every kernel through naga: valid, and can be written for every system. No device is needed.
//!
//! That is all that can be checked of Metal and DX12 on a machine without them.

use super::{
    FLIP, GATHER, Kernel, MESSAGES, MOST_LANES, MOST_PARAMETERS, NODES, SCATTER, TWIGS,
    WORKGROUP_BYTES,
};
use naga::{
    AddressSpace, Module, ResourceBinding,
    back::{hlsl, msl, spv},
    proc::BoundsCheckPolicies,
    valid::{Capabilities, ModuleInfo, ValidationFlags, Validator},
};

const ALL: [Kernel; 6] = [NODES, MESSAGES, TWIGS, SCATTER, GATHER, FLIP];

fn validated(kernel: &Kernel) -> (Module, ModuleInfo) {
    let name = kernel.name;
    let text = kernel.source();
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(&text)));
    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::IMMEDIATES);
    let info = validator
        .validate(&module)
        .unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(&text)));
    (module, info)
}

#[test]
fn kernels_are_valid_and_bound_to_what_they_say() {
    for kernel in ALL {
        let (module, _) = validated(&kernel);
        let mut writes: Vec<_> = module
            .global_variables
            .iter()
            .filter_map(|(_, global)| match (global.space, global.binding) {
                (AddressSpace::Storage { access }, Some(ResourceBinding { group: 0, binding })) => {
                    Some((binding, access.contains(naga::StorageAccess::STORE)))
                }
                _ => None,
            })
            .collect();
        writes.sort_unstable();
        let expected: Vec<_> = (0..).zip(kernel.writes.iter().copied()).collect();
        assert_eq!(writes, expected, "{}", kernel.name);

        let [entry] = module.entry_points.as_slice() else { panic!("{}", kernel.name) };
        let lanes = entry.workgroup_size[0];
        assert!(lanes <= MOST_LANES);
        assert!(kernel.items_per_group == lanes || kernel.items_per_group == 1);
        assert_eq!(entry.name, "main");

        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let size_in = |wanted: fn(AddressSpace) -> bool| {
            let globals = module.global_variables.iter();
            globals
                .filter(|(_, global)| wanted(global.space))
                .map(|(_, global)| layouter[global.ty].size)
                .sum::<u32>()
        };
        let parameters = size_in(|space| space == AddressSpace::Immediate);
        assert_eq!(parameters, kernel.parameters, "{}", kernel.name);
        assert!(parameters <= MOST_PARAMETERS);
        let shared = size_in(|space| space == AddressSpace::WorkGroup);
        assert!(shared <= WORKGROUP_BYTES, "{}: {shared}", kernel.name);
    }
}

#[test]
fn kernels_can_be_written_for_vulkan() {
    for kernel in ALL {
        let (module, info) = validated(&kernel);
        let words = spv::write_vec(&module, &info, &spv::Options::default(), None).unwrap();
        assert!(words.len() > 100, "{}", kernel.name);
    }
}

#[test]
fn kernels_can_be_written_for_metal() {
    for kernel in ALL {
        let (module, info) = validated(&kernel);
        let slots = (0..kernel.writes.len() as u32).map(|binding| {
            let target = msl::BindTarget {
                buffer: Some(binding as u8),
                mutable: kernel.writes[binding as usize],
                ..Default::default()
            };
            (ResourceBinding { group: 0, binding }, target)
        });
        let resources = msl::EntryPointResources {
            resources: slots.collect(),
            immediates_buffer: Some(10),
            sizes_buffer: Some(11),
        };
        let options = msl::Options {
            per_entry_point_map: [("main".to_owned(), resources)].into(),
            bounds_check_policies: BoundsCheckPolicies::default(),
            ..Default::default()
        };
        let pipeline = msl::PipelineOptions::default();
        let (text, written) = msl::write_string(&module, &info, &options, &pipeline).unwrap();
        assert!(text.contains("kernel void"), "{}", kernel.name);
        assert!(written.entry_point_names.iter().all(Result::is_ok), "{written:?}");
    }
}

#[test]
fn kernels_can_be_written_for_direct3d() {
    for kernel in ALL {
        let (module, info) = validated(&kernel);
        let mut text = String::new();
        let bindings = (0..kernel.writes.len() as u32).map(|binding| {
            let target = hlsl::BindTarget { register: binding, ..Default::default() };
            (ResourceBinding { group: 0, binding }, target)
        });
        let options = hlsl::Options {
            binding_map: bindings.collect(),
            immediates_target: Some(hlsl::BindTarget { space: 1, ..Default::default() }),
            special_constants_binding: Some(hlsl::BindTarget { space: 2, ..Default::default() }),
            fake_missing_bindings: false,
            ..Default::default()
        };
        let pipeline = hlsl::PipelineOptions::default();
        let mut writer = hlsl::Writer::new(&mut text, &options, &pipeline);
        let written = writer.write(&module, &info, None).unwrap();
        assert!(written.entry_point_names.iter().all(Result::is_ok), "{written:?}");
        assert!(text.contains("numthreads"), "{}", kernel.name);
    }
}
