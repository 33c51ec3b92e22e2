//! The kernels and the hasher on a real adapter: hardware if there is any, else software.
//!
//! `HEDGEROW_WGPU_SOFTWARE=1` takes a software adapter where there is hardware too.
//! `HEDGEROW_REQUIRE_WGPU=1` turns "no adapter" into a failure.

use super::*;
use crate::guard::{failed, scoped};
use crate::staging::{MOST_STAGED, Uploads};
use hedgerow_hasher_api::{
    BatchHasher, HashError, LeftTree, PairGroup, ScalarHasher, Target, conformance,
};
use hedgerow_hasher_device::{Device, Launch, Limits, Queue};
use hedgerow_types::{Digest, TWIG_LEAVES};
use std::{
    env,
    io::{Write as _, stderr},
    process::Command,
    time::{Duration, Instant},
};

fn asked(variable: &str) -> bool {
    env::var_os(variable).is_some_and(|value| value == "1")
}

/// What the tests run on. Where there is nothing they say so, past the capture of test output.
fn adapter() -> Option<WgpuDevice> {
    let hardware = match asked("HEDGEROW_WGPU_SOFTWARE") {
        true => None,
        false => WgpuDevice::open(&Choice::default()).ok(),
    };
    match hardware.map_or_else(|| WgpuDevice::open(&Choice::software()), Ok) {
        Ok(device) => {
            println!("on {}", device.adapter());
            Some(device)
        }
        Err(error) => {
            assert!(!asked("HEDGEROW_REQUIRE_WGPU"), "{error}");
            writeln!(stderr(), "!!! NOT RUN: a test of hedgerow-hasher-wgpu: {error}").unwrap();
            None
        }
    }
}

fn hasher() -> Option<WgpuHasher> {
    adapter().map(|device| WgpuHasher::new(device).unwrap())
}

/// Digests that are all different, made at no cost worth mentioning.
fn digests(count: usize) -> Vec<Digest> {
    let digest = |i: u64| {
        let mut digest = Digest::ZERO;
        for (part, bytes) in (1_u64..).zip(digest.0.as_chunks_mut().0) {
            *bytes = (i + 1).wrapping_mul(part << 33 | 0x9E37_79B9_7F4A_7C15).to_le_bytes();
        }
        digest
    };
    (0..count as u64).map(digest).collect()
}

fn pairs(
    hasher: &dyn BatchHasher,
    level: u8,
    children: &[Digest],
) -> Result<Vec<Digest>, HashError> {
    let mut out = vec![Digest::ZERO; children.len() / 2];
    hasher.pairs(level, &mut [PairGroup { children, out: &mut out }])?;
    Ok(out)
}

#[test]
fn every_kernel_conforms() {
    if let Some(device) = adapter() {
        hedgerow_hasher_device::conformance::run(&device);
    }
}

#[test]
fn the_hasher_conforms() {
    if let Some(hasher) = hasher() {
        conformance::run(&hasher);
    }
}

#[test]
fn the_hasher_conforms_with_small_chunks() {
    if let Some(device) = adapter() {
        let small = WgpuHasher::with_chunk_bytes(device, Limits::LEAST_BUFFER).unwrap();
        conformance::run(&small);
    }
}

/// Around the sizes of chunks (1024 and 262,144 nodes) and up to a million.
#[test]
fn many_nodes() {
    let Some(device) = adapter() else { return };
    let children = digests(2_000_006);
    let expected = pairs(&ScalarHasher, 7, &children).unwrap();
    let small = WgpuHasher::with_chunk_bytes(device.clone(), Limits::LEAST_BUFFER).unwrap();
    for count in [1023, 1024, 1025, 2047, 2048, 2049, 10_000] {
        let found = pairs(&small, 7, &children[..2 * count]).unwrap();
        assert!(found == expected[..count], "{count} in small chunks");
    }
    let hasher = WgpuHasher::new(device).unwrap();
    for count in [262_143, 262_144, 262_145, 524_289, 1_000_003] {
        let found = pairs(&hasher, 7, &children[..2 * count]).unwrap();
        assert!(found == expected[..count], "{count}");
    }
}

/// More twigs than two chunks hold (256 each).
#[test]
fn many_twigs() {
    let Some(hasher) = hasher() else { return };
    let leaves = digests(513 * TWIG_LEAVES);
    let (mut found, mut expected) = (LeftTree::new(513), LeftTree::new(513));
    hasher.left_trees(&mut [found.group(&leaves, 0..leaves.len())]).unwrap();
    ScalarHasher.left_trees(&mut [expected.group(&leaves, 0..leaves.len())]).unwrap();
    assert!(found == expected);
}

#[test]
fn says_what_it_is() {
    let Some(hasher) = hasher() else { return };
    let found = hasher.capabilities();
    assert_eq!((found.name.as_str(), found.is_device), ("wgpu", true));
    assert_eq!(found.device, hasher.device().adapter());
    let listed = adapters();
    assert!(listed.iter().any(|adapter| adapter.to_string() == found.device), "{listed:?}");
    assert!(listed.iter().zip(0..).all(|(adapter, index)| adapter.index == index));
}

#[test]
fn a_software_adapter_must_be_asked_for() {
    if adapter().is_none() {
        return;
    }
    for found in adapters().iter().filter(|adapter| adapter.software) {
        for wanted in [found.index.to_string(), found.name.clone()] {
            let by_hardware = Choice { adapter: Some(wanted.clone()), software: false };
            let error = open(&by_hardware).unwrap_err();
            assert!(matches!(&error, OpenError::NotFound { .. }), "{error}");
            assert!(error.to_string().contains("must be asked for"), "{error}");
            let opened = open(&Choice { adapter: Some(wanted), software: true }).unwrap();
            assert_eq!(opened.device().adapter(), found.to_string());
        }
    }
    let error = open(&Choice { adapter: Some("no such GPU".into()), software: true }).unwrap_err();
    assert!(matches!(error, OpenError::NotFound { .. }), "{error}");
}

#[test]
fn a_lost_device_says_so_and_a_new_one_works() {
    let Some(hasher) = hasher() else { return };
    let children = digests(200);
    let expected = pairs(&ScalarHasher, 1, &children).unwrap();
    assert_eq!(pairs(&hasher, 1, &children).unwrap(), expected);

    let mut queue = hasher.device().queue().unwrap();
    let buffer = queue.allocate(64).unwrap();
    let download = queue.download(&buffer, 0, 64).unwrap();
    queue.flush().unwrap();
    let shared = &hasher.device().shared;
    shared.device.destroy();
    shared.poll(None).unwrap();

    let lost = |error: HashError| assert!(matches!(error, HashError::DeviceLost { .. }), "{error}");
    lost(queue.wait(download, &mut |_| ()).unwrap_err());
    lost(queue.allocate(64).unwrap_err());
    lost(queue.upload(&buffer, 0, 64, &mut |_| ()).unwrap_err());
    lost(queue.flush().unwrap_err());
    lost(hasher.device().queue().unwrap_err());
    lost(pairs(&hasher, 1, &children).unwrap_err());
    drop((queue, buffer));

    let again = WgpuHasher::new(adapter().unwrap()).unwrap();
    assert_eq!(pairs(&again, 1, &children).unwrap(), expected);
}

/// A device that takes longer than anybody waits is lost, also for those who ask later.
#[test]
fn a_device_that_does_not_answer_is_lost() {
    let Some(device) = adapter() else { return };
    let found = adapters().into_iter().find(|it| it.to_string() == device.adapter()).unwrap();
    let choice = Choice { adapter: Some(found.index.to_string()), software: found.software };
    let impatient = || WgpuDevice::open_with_patience(&choice, Duration::ZERO).unwrap();
    let lost = |error: HashError| {
        assert!(matches!(error, HashError::DeviceLost { .. }), "{error}");
        assert!(error.to_string().contains("no answer for 0ns"), "{error}");
    };
    // A device is not done with what it was given this moment.
    let hasher = WgpuHasher::new(impatient()).unwrap();
    let children = digests(400_000);
    for _ in 0..3 {
        lost(pairs(&hasher, 1, &children).unwrap_err());
    }
    lost(hasher.device().queue().unwrap_err());
    drop(hasher);

    // Rows, and staging that does not come back.
    let hasher = WgpuHasher::new(impatient()).unwrap();
    let mut rows = hasher.residency().unwrap().open(&[400_000, 200_000]).unwrap();
    let all: Vec<u32> = (0..200_000).collect();
    let block = rows
        .write_run(0, 0, &children)
        .and_then(|()| rows.hash(0, 0, &all, Target::row(1)))
        .and_then(|()| rows.read(1, &all))
        .and_then(|()| rows.flush())
        .and_then(|()| rows.take(&mut vec![Digest::ZERO; 200_000]));
    lost(block.unwrap_err());
    lost(rows.write_run(0, 0, &children).unwrap_err());
    lost(pairs(&hasher, 1, &children).unwrap_err());
    drop((rows, hasher));

    let again = WgpuHasher::new(device).unwrap();
    let expected = pairs(&ScalarHasher, 1, &children).unwrap();
    assert!(pairs(&again, 1, &children).unwrap() == expected);
}

/// A device that is lost without anybody having been told yet.
#[test]
fn a_loss_that_nobody_noticed_is_an_error_too() {
    let Some(hasher) = hasher() else { return };
    let children = digests(200);
    hasher.device().shared.device.destroy();
    assert!(pairs(&hasher, 1, &children).is_err());
    let error = pairs(&hasher, 1, &children).unwrap_err();
    assert!(matches!(error, HashError::DeviceLost { .. } | HashError::Device { .. }), "{error}");
}

/// What a number of uploads without a flush leave in the last bytes of each.
fn uploaded(queue: &mut WgpuQueue, lens: &[u64]) -> Vec<[u8; 4]> {
    let largest = lens.iter().copied().max().unwrap();
    let to = queue.allocate(largest).unwrap();
    let mut lasts = vec![];
    for (i, &len) in (0_u32..).zip(lens) {
        queue
            .upload(&to, 0, len, &mut |staging| {
                staging[..4].copy_from_slice(&i.to_le_bytes());
                staging[len as usize - 4..].copy_from_slice(&i.to_le_bytes());
            })
            .unwrap();
        // The last bytes, so that the order and the whole of every upload matter.
        lasts.push(queue.download(&to, len - 4, 4).unwrap());
        let bound = MOST_STAGED.max(len.next_power_of_two());
        assert!(queue.staged() <= bound, "{} bytes after upload {i} of {len}", queue.staged());
    }
    let mut seen = vec![];
    for last in lasts {
        queue.wait(last, &mut |bytes| seen.extend_from_slice(bytes.as_chunks().0)).unwrap();
    }
    seen
}

fn in_order(count: usize) -> Vec<[u8; 4]> {
    (0..count as u32).map(u32::to_le_bytes).collect()
}

/// Four times the bound in one go: what the rows of a large tree do.
#[test]
fn uploads_without_a_flush_hold_bounded_staging() {
    let Some(device) = adapter() else { return };
    let mut queue = device.queue().unwrap();
    let lens = vec![8 << 20; 4 * (MOST_STAGED >> 23) as usize];
    assert_eq!(uploaded(&mut queue, &lens), in_order(lens.len()));
    // What was staged has come back, and is used again.
    queue.allocate(8 << 20).and_then(|to| queue.upload(&to, 0, 8 << 20, &mut |_| ())).unwrap();
    assert!(queue.staged() >= MOST_STAGED / 2, "{}", queue.staged());
    // Small ones between large ones, and one that is larger than the bound: what is free does not
    // fit, and must go.
    let lens: Vec<u64> = (0..60).map(|i| [4, 5 << 10, 40 << 20, 3 << 20, 1 << 10][i % 5]).collect();
    assert_eq!(uploaded(&mut queue, &lens), in_order(lens.len()));
    let lens = [1 << 20, MOST_STAGED + 4, 1 << 20, MOST_STAGED, 4, MOST_STAGED / 2 + 4];
    assert_eq!(uploaded(&mut queue, &lens), in_order(lens.len()));
}

/// Bytes that were asked for stay until they are read; afterwards not all of their staging is kept.
#[test]
fn downloads_that_are_read_keep_bounded_staging() {
    let Some(device) = adapter() else { return };
    let mut queue = device.queue().unwrap();
    let from = queue.allocate(16 << 20).unwrap();
    let count = MOST_STAGED >> 23;
    let downloads: Vec<_> =
        (0..count).map(|_| queue.download(&from, 0, 16 << 20).unwrap()).collect();
    for download in downloads {
        queue.wait(download, &mut |bytes| assert_eq!(bytes.len(), 16 << 20)).unwrap();
        assert!(queue.kept() <= MOST_STAGED, "{}", queue.kept());
    }
    assert!(queue.kept() > 0);
}

/// What wgpu does not map again is neither waited for nor counted.
#[test]
fn staging_that_does_not_come_back_is_given_up() {
    let Some(device) = adapter() else { return };
    let shared = &device.shared;
    let mut uploads = Uploads::new();
    uploads.filled(shared, 8 << 20, &mut |_| ()).unwrap().destroy();
    let submission = shared.queue.submit([]);
    scoped(&shared.device, || uploads.submitted(&submission)).unwrap_err();
    uploads.filled(shared, MOST_STAGED, &mut |_| ()).unwrap();
    assert_eq!(uploads.held(), MOST_STAGED);
}

/// Nobody waits in vain for staging of a device that is gone.
#[test]
fn a_device_that_is_lost_under_uploads_says_so() {
    let Some(device) = adapter() else { return };
    let mut queue = device.queue().unwrap();
    let to = queue.allocate(8 << 20).unwrap();
    let mut upload = || queue.upload(&to, 0, 8 << 20, &mut |staging| staging.fill(1));
    for _ in 0..MOST_STAGED >> 23 {
        upload().unwrap();
    }
    device.shared.device.destroy();
    // The first to meet the loss may not know what it is.
    upload().and_then(|()| upload()).unwrap_err();
    // wgpu tells of the loss when what was in flight is done, which a busy machine takes its time for.
    let start = Instant::now();
    loop {
        device.shared.poll(None).ok(); // it may be lost by now
        let error = upload().unwrap_err();
        if matches!(error, HashError::DeviceLost { .. }) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{error}");
        std::thread::yield_now();
    }
}

fn wrong_buffer(device: &wgpu::Device) -> wgpu::Buffer {
    // Memory cannot be mapped for writing and be a kernel's.
    device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: 64,
        usage: wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::STORAGE,
        mapped_at_creation: false,
    })
}

#[test]
fn errors_of_wgpu_are_values() {
    let Some(device) = adapter() else { return };
    let raw = &device.shared.device;
    let error = scoped(raw, || drop(wrong_buffer(raw))).unwrap_err();
    assert!(matches!(error, HashError::Device { .. }), "{error}");
    // It was received, so nobody else gets it.
    let mut old = device.queue().unwrap();
    old.allocate(64).unwrap();

    drop(wrong_buffer(raw));
    let error = old.allocate(64).unwrap_err();
    assert!(matches!(error, HashError::Device { .. }), "{error}");
    let mut new = device.queue().unwrap();
    new.allocate(64).unwrap();

    let absurd = device.shared.buffer(1 << 60, wgpu::BufferUsages::STORAGE, false).unwrap_err();
    assert!(matches!(absurd, HashError::Device { .. }), "{absurd}");
    assert!(matches!(new.allocate(1 << 60), Err(HashError::Shape(_))));
    assert!(matches!(new.allocate(0), Err(HashError::Shape(_))));
    assert_eq!(failed("x").to_string(), "hash backend wgpu failed: x");
}

/// wgpu itself would take the buffers of another instance for its own.
#[test]
fn what_belongs_to_another_queue_is_refused() {
    let (Some(one), Some(other)) = (adapter(), adapter()) else { return };
    let mut queue = one.queue().unwrap();
    let own = queue.allocate(64).unwrap();
    for mut stranger in [one.queue().unwrap(), other.queue().unwrap()] {
        let buffer = stranger.allocate(64).unwrap();
        let download = stranger.download(&buffer, 0, 64).unwrap();
        let flip = Launch::Flip { flips: &own, count: 2, out: &buffer };
        for result in [
            queue.upload(&buffer, 0, 64, &mut |_| ()),
            queue.launch(flip),
            queue.download(&buffer, 0, 64).map(drop),
            queue.wait(download, &mut |_| ()),
        ] {
            assert!(matches!(result, Err(HashError::Shape(_))), "{result:?}");
        }
    }
}

/// The child of the next test: a machine without a driver.
#[test]
#[ignore = "runs inside `a_machine_without_drivers_says_so`"]
fn without_drivers() {
    assert_eq!(adapters(), []);
    for choice in [Choice::default(), Choice::software()] {
        let error = open(&choice).unwrap_err();
        assert!(matches!(error, OpenError::NoAdapter { .. }), "{error}");
        println!("said: {error}");
    }
}

#[test]
fn a_machine_without_drivers_says_so() {
    let run = Command::new(env::current_exe().unwrap())
        .args(["--exact", "tests::without_drivers", "--ignored", "--nocapture"])
        .env("VK_DRIVER_FILES", "/nonexistent/driver.json")
        .env("VK_ICD_FILENAMES", "/nonexistent/driver.json")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
    if cfg!(target_os = "linux") {
        assert!(text.contains("said: no GPU adapter: "), "{text}");
    }
}
