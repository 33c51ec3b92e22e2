// Left trees of whole twigs, one work group each: 2048 leaves, 11 levels, 2047 inner nodes.
//
//  levels 1..3    each of 256 lanes: 8 leaves, 7 nodes, alone
//  level  3       256 nodes in `odd_levels`
//  level  4       128 nodes in `even_levels`     a level is read from one region and written to
//  level  5        64 nodes in `odd_levels` ...  the other: one barrier per level is enough
//  level 11         1 node, in `roots`

struct Parameters {
    count: u32,
    // 1: all inner nodes are wanted, in `inner`.
    keep: u32,
}

var<immediate> parameters: Parameters;
@group(0) @binding(0) var<storage, read> leaves: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> roots: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> inner: array<vec4<u32>>;

const WIDTH: u32 = 256u;
const LEAVES: u32 = 2048u;

// 12 KiB: one of the regions has the nodes of levels 3, 5, .. 11, the other those of 4, 6, .. 10.
var<workgroup> odd_levels: array<Digest, 256>;
var<workgroup> even_levels: array<Digest, 128>;

// Writes the `i`-th node of a level of a twig, if wanted. Level 1 lies first; before level n lie
// 1024 + 512 + .. = 2048 - (4096 >> n) nodes.
fn keep(twig: u32, level: u32, i: u32, node: Digest) {
    if parameters.keep != 0u {
        let at = 2u * ((LEAVES - 1u) * twig + LEAVES - (4096u >> level) + i);
        inner[at] = swap(node.a);
        inner[at + 1u] = swap(node.b);
    }
}

// The level-3 node over 8 leaves.
fn eight(twig: u32, lane: u32) -> Digest {
    // The last node of each level that still waits for its right sibling.
    var waiting: array<Digest, 3>;
    var top: Digest;
    for (var i = 0u; i < 4u; i++) {
        let at = 2u * (LEAVES * twig + 8u * lane + 2u * i);
        var left = Digest(swap(leaves[at]), swap(leaves[at + 1u]));
        var right = Digest(swap(leaves[at + 2u]), swap(leaves[at + 3u]));
        // After a pair of leaves, as many levels up as have both children by now: 1, 2, 1, 3.
        for (var level = 1u; level <= 3u; level++) {
            top = node(level - 1u, left, right);
            let place = i >> (level - 1u);
            keep(twig, level, (lane << (3u - level)) + place, top);
            if (place & 1u) == 0u {
                waiting[level - 1u] = top;
                break;
            }
            left = waiting[level - 1u];
            right = top;
        }
    }
    return top;
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let twig = group.y * groups.x + group.x;
    if twig >= parameters.count {
        return;
    }
    odd_levels[lane] = eight(twig, lane);
    for (var level = 4u; level <= 11u; level++) {
        workgroupBarrier();
        if lane < (LEAVES >> level) {
            var left: Digest;
            var right: Digest;
            if (level & 1u) == 0u {
                left = odd_levels[2u * lane];
                right = odd_levels[2u * lane + 1u];
            } else {
                left = even_levels[2u * lane];
                right = even_levels[2u * lane + 1u];
            }
            let parent = node(level - 1u, left, right);
            if (level & 1u) == 0u {
                even_levels[lane] = parent;
            } else {
                odd_levels[lane] = parent;
            }
            keep(twig, level, lane, parent);
            if level == 11u {
                roots[2u * twig] = swap(parent.a);
                roots[2u * twig + 1u] = swap(parent.b);
            }
        }
    }
}
