// out[word] ^= mask for every (word, mask) of `flips`

struct Parameters {
    count: u32,
}

var<immediate> parameters: Parameters;
@group(0) @binding(0) var<storage, read> flips: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> out: array<u32>;

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
    out[flips[i].x] ^= flips[i].y;
}
