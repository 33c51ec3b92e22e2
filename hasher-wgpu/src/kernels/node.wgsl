// node(level, l, r): SHA-256 of 65 bytes (spec 2). The level pushes the children one byte along;
// the second block holds the last byte, the end mark and the length of 520 bits.
fn node(level: u32, l: Digest, r: Digest) -> Digest {
    let first = compress(
        INITIAL,
        (level << 24u) | (l.a.x >> 8u),
        (l.a.x << 24u) | (l.a.y >> 8u),
        (l.a.y << 24u) | (l.a.z >> 8u),
        (l.a.z << 24u) | (l.a.w >> 8u),
        (l.a.w << 24u) | (l.b.x >> 8u),
        (l.b.x << 24u) | (l.b.y >> 8u),
        (l.b.y << 24u) | (l.b.z >> 8u),
        (l.b.z << 24u) | (l.b.w >> 8u),
        (l.b.w << 24u) | (r.a.x >> 8u),
        (r.a.x << 24u) | (r.a.y >> 8u),
        (r.a.y << 24u) | (r.a.z >> 8u),
        (r.a.z << 24u) | (r.a.w >> 8u),
        (r.a.w << 24u) | (r.b.x >> 8u),
        (r.b.x << 24u) | (r.b.y >> 8u),
        (r.b.y << 24u) | (r.b.z >> 8u),
        (r.b.z << 24u) | (r.b.w >> 8u),
    );
    return compress(
        first,
        (r.b.w << 24u) | 0x00800000u,
        0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u, 0u,
        520u,
    );
}
