// Parents of a run or of a list: out[stride * p + offset] = node(level, children[2p], children[2p+1]).

struct Parameters {
    count: u32,
    level: u32,
    // The first parent, or the index of its number in `places`.
    first: u32,
    // 1: `places` says which parents.
    listed: u32,
    stride: u32,
    offset: u32,
}

var<immediate> parameters: Parameters;
@group(0) @binding(0) var<storage, read> children: array<vec4<u32>>;
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
    var parent = parameters.first + i;
    if parameters.listed != 0u {
        parent = places[parent];
    }
    let left = 4u * parent;
    let hash = node(
        parameters.level,
        Digest(swap(children[left]), swap(children[left + 1u])),
        Digest(swap(children[left + 2u]), swap(children[left + 3u])),
    );
    let to = 2u * (parameters.stride * parent + parameters.offset);
    out[to] = swap(hash.a);
    out[to + 1u] = swap(hash.b);
}
