// What every kernel begins with. `compress` follows: see `compression.rs`.

// Lanes of a work group.
const LANES: u32 = 128u;

// 256 bits as the hash function sees them: eight words in big-endian order.
struct Digest {
    a: vec4<u32>,
    b: vec4<u32>,
}

// FIPS 180-4, 5.3.3.
const INITIAL = Digest(
    vec4<u32>(0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au),
    vec4<u32>(0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u),
);

// Bytes as they lie in a buffer to big-endian words, and back.
fn swap(x: vec4<u32>) -> vec4<u32> {
    let odd = ((x << vec4(8u)) | (x >> vec4(24u))) & vec4(0x00ff00ffu);
    let even = ((x << vec4(24u)) | (x >> vec4(8u))) & vec4(0xff00ff00u);
    return odd | even;
}

// The item of a lane. Work groups beyond what one dimension takes go to the second.
fn item(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> u32 {
    return (group.y * groups.x + group.x) * LANES + lane;
}
