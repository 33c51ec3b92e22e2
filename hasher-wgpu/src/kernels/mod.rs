//! The kernels: their text, and what they are bound to.
//!
//! ```text
//!  common.wgsl ─ compression.rs ─ node.wgsl ─┬─ nodes.wgsl
//!                       │                    └─ twigs.wgsl
//!                       └─ messages.wgsl
//!  common.wgsl ─ scatter, gather, flip
//! ```
//!
//! Every kernel has one entry point `main`, its buffers in group 0 and its parameters as immediate
//! data.

mod compression;
#[cfg(test)]
mod tests;

/// Text of a kernel and what it is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    /// Its own file.
    body: &'static str,
    needs: Needs,
    /// One element per buffer: whether the kernel writes to it.
    pub(crate) writes: &'static [bool],
    /// Bytes of its parameters.
    pub(crate) parameters: u32,
    /// Items that a work group does.
    pub(crate) items_per_group: u32,
}

/// What stands before a kernel.
#[derive(Clone, Copy, Debug)]
enum Needs {
    Nothing,
    Compression,
    Nodes,
}

/// Lanes of a work group in all kernels but [`TWIGS`]: `LANES` in `common.wgsl`.
pub(crate) const LANES: u32 = 128;

/// `Launch::Nodes`.
pub(crate) const NODES: Kernel = Kernel {
    name: "nodes",
    body: include_str!("nodes.wgsl"),
    needs: Needs::Nodes,
    writes: &[false, false, true],
    parameters: 24,
    items_per_group: LANES,
};

/// `Launch::Messages`.
pub(crate) const MESSAGES: Kernel = Kernel {
    name: "messages",
    body: include_str!("messages.wgsl"),
    needs: Needs::Compression,
    writes: &[false, false, true],
    parameters: 4,
    items_per_group: LANES,
};

/// `Launch::Twigs`.
pub(crate) const TWIGS: Kernel = Kernel {
    name: "twigs",
    body: include_str!("twigs.wgsl"),
    needs: Needs::Nodes,
    writes: &[false, true, true],
    parameters: 8,
    items_per_group: 1,
};

/// `Launch::Scatter`.
pub(crate) const SCATTER: Kernel = Kernel {
    name: "scatter",
    body: include_str!("scatter.wgsl"),
    needs: Needs::Nothing,
    writes: &[false, false, true],
    parameters: 4,
    items_per_group: LANES,
};

/// `Launch::Gather`.
pub(crate) const GATHER: Kernel =
    Kernel { name: "gather", body: include_str!("gather.wgsl"), ..SCATTER };

/// `Launch::Flip`.
pub(crate) const FLIP: Kernel =
    Kernel { name: "flip", body: include_str!("flip.wgsl"), writes: &[false, true], ..SCATTER };

/// Largest [`Kernel::parameters`].
pub(crate) const MOST_PARAMETERS: u32 = 24;
/// Lanes of the largest work group.
pub(crate) const MOST_LANES: u32 = 256;
/// Bytes that a work group shares, at most.
pub(crate) const WORKGROUP_BYTES: u32 = 12 << 10;

impl Kernel {
    /// The whole text.
    pub(crate) fn source(&self) -> String {
        // Writing to a string cannot fail.
        let compression = || compression::source().unwrap_or_default();
        let mut text = String::from(include_str!("common.wgsl"));
        if !matches!(self.needs, Needs::Nothing) {
            text += &compression();
        }
        if matches!(self.needs, Needs::Nodes) {
            text += include_str!("node.wgsl");
        }
        text + self.body
    }
}
