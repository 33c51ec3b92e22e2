// out[first + i] = digest

struct Parameters {
    // As its bytes lie in memory.
    a: vec4<u32>,
    b: vec4<u32>,
    count: u32,
    first: u32,
}

var<immediate> parameters: Parameters;
@group(0) @binding(0) var<storage, read_write> out: array<vec4<u32>>;

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
    let to = 2u * (parameters.first + i);
    out[to] = parameters.a;
    out[to + 1u] = parameters.b;
}
