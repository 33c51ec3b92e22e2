//! What every [`Device`] must do, launch by launch. The behaviour of the hasher on top of it is
//! [`hedgerow_hasher_api::conformance`]'s.
//!
//! ```text
//!  a launch and its operands ──┬──► device under test ──► all operands afterwards ──┐
//!   (noise, and slack behind)  └──► HostDevice ─────────► all operands afterwards ──┤ equal?
//! ```
//!
//! Operands are longer than the launch needs, and whole operands are compared: a kernel that goes
//! one item too far shows, also where the device would hide an access outside of a buffer.
#![expect(clippy::panic, reason = "a violation panics, as in every test")]

mod cases;

use crate::{Device, HostDevice, Launch, Limits, Parents, Queue};
use cases::{Case, Random};
use hedgerow_hasher_api::HashError;

/// Runs every kernel at counts around the sizes of warps and work groups, and the rules of queues.
///
/// # Panics
/// At the first difference, with a message that names the case.
pub fn run<D: Device>(device: &D) {
    let name = device.capabilities().name;
    println!("device conformance: {name}, {}", device.capabilities().device);
    let oracle = HostDevice::new(Limits { buffer_bytes: u64::MAX / 4 * 4, max_count: u32::MAX });
    let mut random = Random::new(device.limits());
    for case in cases::all(&mut random) {
        let expected = results(&oracle, &case);
        compare(&name, &case, &results(device, &case), &expected);
    }
    work_is_done_in_order(&name, device, &mut random);
    queues_are_independent(&name, device, &mut random);
    things_may_be_dropped_early(&name, device, &mut random);
}

fn compare(
    name: &str,
    case: &Case,
    found: &Result<Vec<Vec<u8>>, HashError>,
    expected: &Result<Vec<Vec<u8>>, HashError>,
) {
    let Case { what, .. } = case;
    let (found, expected) = match (found, expected) {
        (Ok(found), Ok(expected)) => (found, expected),
        (_, Err(error)) => panic!("{what}: the case itself is wrong: {error}"),
        (Err(error), _) => panic!("{name}: {what}: {error}"),
    };
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let at = found.iter().zip(expected).position(|(a, b)| a != b);
        let Some(at) = at else { continue };
        let digest = at / 32;
        let end = |bytes: &[u8]| bytes.len().min(32 * digest + 32);
        let (a, b) = (&found[32 * digest..end(found)], &expected[32 * digest..end(expected)]);
        let changed = a != &case.operands[i][32 * digest..end(found)];
        let changed = if changed { "holds" } else { "was not written and holds" };
        panic!("{name}: {what}: digest {digest} of operand {i} {changed} {a:02x?}, not {b:02x?}");
    }
}

/// All operands after a launch.
fn results<D: Device>(device: &D, case: &Case) -> Result<Vec<Vec<u8>>, HashError> {
    let mut queue = device.queue()?;
    let buffers = case.operands.iter().map(|bytes| upload(&mut queue, bytes));
    let buffers = buffers.collect::<Result<Vec<_>, _>>()?;
    queue.launch(case.launch.map(|&operand| &buffers[operand]))?;
    // The last first: downloads may be waited for in any order.
    let mut downloads = vec![];
    for (buffer, bytes) in buffers.iter().zip(&case.operands) {
        downloads.push(queue.download(buffer, 0, bytes.len() as u64)?);
    }
    let all = downloads.into_iter().rev().map(|download| wait(&mut queue, download));
    let mut all = all.collect::<Result<Vec<_>, _>>()?;
    all.reverse();
    Ok(all)
}

fn upload<Q: Queue>(queue: &mut Q, bytes: &[u8]) -> Result<Q::Buffer, HashError> {
    let buffer = queue.allocate(bytes.len() as u64)?;
    queue.upload(&buffer, 0, bytes.len() as u64, &mut |to| to.copy_from_slice(bytes))?;
    Ok(buffer)
}

fn wait<Q: Queue>(queue: &mut Q, download: Q::Download) -> Result<Vec<u8>, HashError> {
    let mut found = vec![];
    let mut times = 0;
    queue.wait(download, &mut |bytes| {
        found = bytes.to_vec();
        times += 1;
    })?;
    assert_eq!(times, 1, "a download was shown {times} times");
    Ok(found)
}

/// A buffer is written again while earlier work that reads it is not done; downloads hold what was
/// there at their turn.
fn work_is_done_in_order<D: Device>(name: &str, device: &D, random: &mut Random) {
    let contents: Vec<_> = (0..6).map(|_| random.bytes(64 * 300)).collect();
    let count = device.limits().max_count.min(300);
    let oracle = HostDevice::new(Limits { buffer_bytes: 1 << 20, max_count: count });
    let expected = oracle.queue().and_then(|mut queue| script(&mut queue, &contents, count));
    let found = device.queue().and_then(|mut queue| script(&mut queue, &contents, count));
    assert!(expected.is_ok(), "the script itself is wrong: {expected:?}");
    assert!(found == expected, "{name}: work was not done in the order given: {:?}", found.err());
}

/// Work that depends on its order.
fn script<Q: Queue>(
    queue: &mut Q,
    contents: &[Vec<u8>],
    count: u32,
) -> Result<Vec<Vec<u8>>, HashError> {
    let len = contents[0].len() as u64;
    let nodes = upload(queue, &contents[0])?;
    let (a, b) = (upload(queue, &contents[1])?, upload(queue, &contents[2])?);
    let moved = count.min(8);
    let places = queue.allocate(4 * u64::from(moved))?;
    let mut downloads = vec![];
    for (turn, bytes) in contents.iter().enumerate() {
        queue.upload(&nodes, 0, len, &mut |to| to.copy_from_slice(bytes))?;
        let first = turn as u32 + 1;
        queue.upload(&places, 0, 4 * u64::from(moved), &mut |to| {
            for (to, place) in to.as_chunks_mut().0.iter_mut().zip(first..) {
                *to = place.to_le_bytes();
            }
        })?;
        // Part of it twice: the later upload wins.
        queue.upload(&nodes, 64, 128, &mut |to| to.fill(turn as u8))?;
        let parents = Parents::Run { first: 0 };
        queue.launch(Launch::Nodes {
            level: turn as u8,
            children: &nodes,
            parents,
            count,
            out: &a,
            out_stride: 1,
            out_offset: 0,
        })?;
        downloads.push(queue.download(&a, 32, 64)?);
        let (digests, places) = (&a, &places);
        queue.launch(Launch::Scatter { digests, places, count: moved, out: &b })?;
        if turn % 2 == 1 {
            queue.flush()?;
        }
        downloads.push(queue.download(&b, 0, len)?);
        let (digests, out) = (&b, &nodes);
        queue.launch(Launch::Gather { digests, places, count: moved, out })?;
        downloads.push(queue.download(&nodes, 4, 512)?);
    }
    downloads.into_iter().rev().map(|download| wait(queue, download)).collect()
}

/// Four threads with a queue each.
fn queues_are_independent<D: Device>(name: &str, device: &D, random: &mut Random) {
    let cases: Vec<_> = (0..4).map(|_| cases::mixed(random)).collect();
    let oracle = HostDevice::new(Limits { buffer_bytes: 1 << 30, max_count: u32::MAX });
    std::thread::scope(|scope| {
        for cases in &cases {
            let oracle = &oracle;
            scope.spawn(move || {
                for case in cases {
                    compare(name, case, &results(device, case), &results(oracle, case));
                }
            });
        }
    });
}

/// Buffers, downloads and queues that go while they are in use.
fn things_may_be_dropped_early<D: Device>(name: &str, device: &D, random: &mut Random) {
    for case in cases::mixed(random) {
        let early = || {
            let mut queue = device.queue()?;
            let buffers = case.operands.iter().map(|bytes| upload(&mut queue, bytes));
            let buffers = buffers.collect::<Result<Vec<_>, _>>()?;
            queue.launch(case.launch.map(|&operand| &buffers[operand]))?;
            let kept = queue.download(&buffers[0], 0, 32)?;
            let dropped = queue.download(&buffers[0], 0, 32)?;
            queue.flush()?;
            drop(buffers);
            drop(dropped);
            let first = wait(&mut queue, kept)?;
            // And a queue with work that nobody waits for.
            let buffer = upload(&mut queue, &case.operands[0])?;
            let _download = queue.download(&buffer, 0, 32)?;
            queue.flush()?;
            drop(queue);
            Ok::<_, HashError>(first)
        };
        match early() {
            Ok(first) => assert_eq!(first, case.operands[0][..32], "{name}: {}", case.what),
            Err(error) => panic!("{name}: {}: {error}", case.what),
        }
    }
}
