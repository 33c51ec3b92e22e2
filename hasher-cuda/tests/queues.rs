//! Every kernel and the rules of queues on every usable device; what is refused before the driver
//! sees it.
#![cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use common::driver;
use hedgerow_hasher_api::HashError;
use hedgerow_hasher_cuda::{CudaBuffer, CudaDevice};
use hedgerow_hasher_device::{Buffer, Device, Launch, Queue, conformance};

#[test]
fn every_kernel_of_every_device_conforms() {
    for ordinal in driver().ordinals() {
        conformance::run(&CudaDevice::new(ordinal).unwrap());
    }
}

fn buffer(queue: &mut impl Queue<Buffer = CudaBuffer>, fill: u8) -> CudaBuffer {
    let buffer = queue.allocate(64).unwrap();
    queue.upload(&buffer, 0, 64, &mut |staging| staging.fill(fill)).unwrap();
    buffer
}

#[test]
fn what_cannot_be_right_is_refused() {
    let _driver = driver();
    let device = CudaDevice::new(0).unwrap();
    let (mut queue, mut other) = (device.queue().unwrap(), device.queue().unwrap());
    let (a, b, foreign) = (buffer(&mut queue, 1), buffer(&mut queue, 2), buffer(&mut other, 3));
    let refused = |result: Result<(), HashError>| {
        assert!(matches!(result, Err(HashError::Shape(_))), "{result:?}");
    };
    refused(queue.launch(Launch::Flip { flips: &a, count: 9, out: &b }));
    refused(queue.launch(Launch::Flip { flips: &a, count: 1, out: &a }));
    refused(queue.launch(Launch::Flip { flips: &a, count: 1, out: &foreign }));
    refused(queue.launch(Launch::Flip { flips: &foreign, count: 1, out: &a }));
    refused(queue.upload(&foreign, 0, 4, &mut |_| {}));
    refused(queue.upload(&a, 2, 4, &mut |_| {}));
    refused(queue.upload(&a, 60, 8, &mut |_| {}));
    refused(queue.upload(&a, 0, 0, &mut |_| {}));
    refused(queue.download(&foreign, 0, 4).map(|_| ()));
    refused(queue.download(&a, 0, 68).map(|_| ()));
    refused(queue.allocate(0).map(|_| ()));
    refused(queue.allocate(device.limits().buffer_bytes + 4).map(|_| ()));
    let download = other.download(&foreign, 0, 4).unwrap();
    refused(queue.wait(download, &mut |_| {}));
    // Nothing to do is no launch.
    queue.launch(Launch::Flip { flips: &a, count: 0, out: &b }).unwrap();
    assert_eq!(a.bytes(), 64);
}

#[test]
fn queues_move_between_threads() {
    let _driver = driver();
    let device = CudaDevice::new(0).unwrap();
    let mut queue = device.queue().unwrap();
    let elsewhere = move || {
        let kept = buffer(&mut queue, 3);
        let download = queue.download(&kept, 8, 4).unwrap();
        (queue, kept, download)
    };
    let (mut queue, kept, download) = std::thread::spawn(elsewhere).join().unwrap();
    // The last handle of the device and its context goes on a thread that never made a call.
    drop(device);
    let elsewhere = move || {
        let mut seen = vec![];
        queue.wait(download, &mut |bytes| seen = bytes.to_vec()).unwrap();
        drop((queue, kept));
        seen
    };
    assert_eq!(std::thread::spawn(elsewhere).join().unwrap(), [3; 4]);
}

/// More uploads than a queue stages without waiting, from blocks that go round: of equal sizes, of a
/// size that grows, and one that is larger than all staging together.
#[test]
fn uploads_without_end() {
    const MOST_STAGED: u64 = 64 << 20;
    const LEAST_DOWNLOAD: u64 = 64 << 10;
    let driver = driver();
    let fake = driver.fake("the bound of pinned memory");
    let mut queue = CudaDevice::new(0).unwrap().queue().unwrap();
    let to = queue.allocate(MOST_STAGED + 4).unwrap();
    let mut lasts = vec![];
    let equal = std::iter::repeat_n(8 << 20, 20);
    let growing = (1..=20).map(|i| i << 20);
    let lens: Vec<u64> = equal.chain(growing).chain([MOST_STAGED + 4, 4, 33 << 20, 4]).collect();
    for (turn, &len) in (0_u32..).zip(&lens) {
        let fill = &mut |staging: &mut [u8]| staging.fill(turn as u8);
        queue.upload(&to, 0, len, fill).unwrap();
        lasts.push(queue.download(&to, len - 4, 4).unwrap());
        if let Some(fake) = fake {
            let staged = fake.live().unwrap()["pinned_bytes"];
            let staged = staged - LEAST_DOWNLOAD * lasts.len() as u64;
            assert!(staged <= MOST_STAGED.max(len.next_power_of_two()), "{staged}, turn {turn}");
        }
    }
    for (turn, last) in lasts.into_iter().enumerate() {
        queue.wait(last, &mut |bytes| assert_eq!(bytes, [turn as u8; 4])).unwrap();
    }
}

/// A tree asks for two dozen lists of nodes at once, block after block: their memory is kept, to a bound.
#[test]
fn downloads_use_their_memory_again() {
    const MOST_KEPT: u64 = 64 << 20;
    let driver = driver();
    let fake = driver.fake("the bound of pinned memory");
    let mut queue = CudaDevice::new(0).unwrap().queue().unwrap();
    let from = queue.allocate(16 << 20).unwrap();
    let pinned = || fake.map(|fake| fake.live().unwrap()["pinned_bytes"]);
    let mut round = |lens: &[u64]| {
        let downloads = lens.iter().map(|&len| queue.download(&from, 0, len).unwrap());
        let downloads = downloads.collect::<Vec<_>>();
        let asked = pinned();
        for (download, &len) in downloads.into_iter().zip(lens) {
            queue.wait(download, &mut |bytes| assert_eq!(bytes.len() as u64, len)).unwrap();
        }
        (asked, pinned())
    };
    let small = (1..=24).map(|i| 1024 * i).collect::<Vec<_>>();
    let (asked, kept) = round(&small);
    assert_eq!(asked, kept);
    // Nothing new, and nothing freed.
    assert_eq!(round(&small), (asked, kept));
    let (_, kept) = round(&[16 << 20; 10]);
    assert!(kept <= fake.map(|_| MOST_KEPT), "{kept:?}");
}
