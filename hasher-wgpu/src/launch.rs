//! A [`Launch`] as a kernel, its buffers, its parameters and its work groups.

use crate::pipelines::{Pipeline, Pipelines};
use hedgerow_hasher_device::{Launch, Parents};

/// A launch that is ready to be recorded.
pub(crate) struct Bound<'a> {
    pipeline: &'a Pipeline,
    buffers: [&'a wgpu::Buffer; 3],
    parameters: Vec<u32>,
    count: u32,
}

impl<'a> Bound<'a> {
    /// `unused` takes the place of operands that the launch does without. The order of buffers and
    /// parameters is that of the kernels' files.
    pub(crate) fn new(
        pipelines: &'a Pipelines,
        launch: &Launch<'a, wgpu::Buffer>,
        unused: &'a wgpu::Buffer,
    ) -> Self {
        let count = launch.count();
        let (pipeline, buffers, parameters) = match *launch {
            Launch::Nodes { level, children, parents, out, out_stride, out_offset, .. } => {
                let (first, listed, places) = match parents {
                    Parents::Run { first } => (first, 0, unused),
                    Parents::List { places, first } => (first, 1, places),
                };
                let level = u32::from(level);
                let parameters = vec![count, level, first, listed, out_stride, out_offset];
                (&pipelines.nodes, [children, places, out], parameters)
            }
            Launch::Messages { bytes, spans, out, .. } => {
                (&pipelines.messages, [bytes, spans, out], vec![count])
            }
            Launch::Twigs { leaves, roots, inner, .. } => {
                let parameters = vec![count, u32::from(inner.is_some())];
                (&pipelines.twigs, [leaves, roots, inner.unwrap_or(unused)], parameters)
            }
            Launch::Scatter { digests, places, out, .. } => {
                (&pipelines.scatter, [digests, places, out], vec![count])
            }
            Launch::Gather { digests, places, out, .. } => {
                (&pipelines.gather, [digests, places, out], vec![count])
            }
            Launch::Flip { flips, out, .. } => (&pipelines.flip, [flips, out, unused], vec![count]),
        };
        Self { pipeline, buffers, parameters, count }
    }

    /// Records the launch.
    pub(crate) fn dispatch(&self, device: &wgpu::Device, encoder: &mut wgpu::CommandEncoder) {
        let Pipeline { kernel, layout, pipeline } = self.pipeline;
        let buffers = (0..).zip(&self.buffers[..kernel.writes.len()]);
        let entries: Vec<_> = buffers
            .map(|(binding, buffer)| wgpu::BindGroupEntry {
                binding,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout,
            entries: &entries,
        });
        let parameters: Vec<u8> = self.parameters.iter().flat_map(|p| p.to_le_bytes()).collect();
        let (x, y) = groups(self.count, kernel.items_per_group, MOST_GROUPS);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.set_immediates(0, &parameters);
        pass.dispatch_workgroups(x, y, 1);
    }
}

/// Work groups of one dimension: what every adapter takes. Few in tests, so that they see the second
/// dimension, and groups that have nothing to do.
const MOST_GROUPS: u32 = if cfg!(test) { 7 } else { 65_535 };

/// Two dimensions of work groups, the first of at most `most`, that together do `count` items or a
/// few more.
fn groups(count: u32, items_per_group: u32, most: u32) -> (u32, u32) {
    let groups = count.div_ceil(items_per_group);
    let y = groups.div_ceil(most).max(1);
    (groups.div_ceil(y), y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_groups_cover_the_items_and_little_more() {
        for count in [1, 127, 128, 129, 65_535 * 128, 65_535 * 128 + 1, 1 << 30] {
            for items in [1, 128] {
                let (x, y) = groups(count, items, 65_535);
                let done = u64::from(x) * u64::from(y) * u64::from(items);
                assert!(x <= 65_535 && y <= 65_535, "{count}");
                assert!(done >= count.into(), "{count}");
                assert!(done < u64::from(count) + u64::from(items) * (u64::from(y) + 1), "{count}");
                // Lanes beyond the last item count in 32 bits too.
                assert!(done <= u32::MAX.into(), "{count}");
            }
        }
    }
}
