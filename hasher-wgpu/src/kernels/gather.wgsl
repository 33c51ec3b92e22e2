// out[i] = digests[places[i]]

struct Parameters {
    count: u32,
}

var<immediate> parameters: Parameters;
@group(0) @binding(0) var<storage, read> digests: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> places: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<u32>>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = item(group, groups, lane);
    if i >= parameters.count {
        return;
    }
    let source = 2u * places[i];
    out[2u * i] = digests[source];
    out[2u * i + 1u] = digests[source + 1u];
}
