//! The power goes, or a call fails, at every call that spills, merges and removals make.

use crate::world::{Keys, Saved, World, create, files, options, work};
use hedgerow_index::{Index, IndexError, TieredIndex};
use hedgerow_vfs::Vfs;
use hedgerow_vfs::power_loss::{Calls, Fault, FaultKind, PowerLossDisk};
use std::sync::Arc;

/// What is durable: the last manifest, the state that it is of, and the one before, whose files may be gone.
struct Durable {
    saved: Saved,
    world: World,
}

/// Blocks, jobs, manifests and removals until the end or the first error. `durable` is what a manifest would have.
fn run(
    vfs: &Arc<dyn Vfs>,
    seed: u64,
    durable: &mut Option<Durable>,
    mut fail: impl FnMut(&TieredIndex, &World, IndexError) -> Result<(), IndexError>,
) -> Result<(), IndexError> {
    let index = TieredIndex::create(Arc::clone(vfs), options(0))?;
    let mut world = World::new(seed, Keys::Spread(700));
    for number in 0..48 {
        index.apply(&world.block(120, 25))?;
        while let Some(job) = index.work() {
            match job.run() {
                Ok(done) => index.install(done),
                Err(error) => fail(&index, &world, error)?,
            }
        }
        if number % 5 == 4 {
            let saved = Saved::new(&index, &world);
            // The manifest is durable here. It is not of this crate: it is as if it took no call.
            let retired = saved.snapshot.retired.clone();
            *durable = Some(Durable { saved, world: world.clone() });
            while let Err(error) = index.unlink(&retired) {
                fail(&index, &world, error)?;
            }
        }
    }
    Ok(())
}

/// Opens what the manifest named, asks for everything, goes on.
fn recover(vfs: &Arc<dyn Vfs>, durable: Option<&Durable>) {
    let (index, mut world) = match durable {
        Some(Durable { saved, world }) => (saved.open(vfs, 0).unwrap(), world.clone()),
        None => (create(vfs, 0), World::new(77, Keys::Spread(700))),
    };
    world.check(&index, 9);
    index.remove_strays().unwrap();
    assert_eq!(files(vfs).len(), index.snapshot().segments.len());
    for _ in 0..4 {
        index.apply(&world.block(150, 25)).unwrap();
        work(&index, 10).unwrap();
    }
    world.check(&index, 9);
}

#[test]
fn the_power_goes_at_every_call() {
    let dry = PowerLossDisk::new(1);
    let vfs: Arc<dyn Vfs> = Arc::new(dry.clone());
    run(&vfs, 3, &mut None, |_, _, error| Err(error)).unwrap();
    let changes = dry.trace().changes;
    assert!(changes > 80, "{changes}");
    for call in 0..changes {
        let disk = PowerLossDisk::new(call);
        disk.plan(Fault::once(Calls::Changes, call, FaultKind::PowerOff));
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let mut durable = None;
        let ended = run(&vfs, 3, &mut durable, |_, _, error| Err(error));
        assert!(ended.is_err() || disk.is_off(), "call {call}");
        for after in [disk.power_cycle(call), disk.lose_all_unsynced(), disk.process_death()] {
            let vfs: Arc<dyn Vfs> = Arc::new(after);
            recover(&vfs, durable.as_ref());
        }
    }
}

/// A call that fails fails its job and nothing else: the index answers, and the job is done when it is asked for again.
#[test]
fn every_call_fails_once() {
    let dry = PowerLossDisk::new(1);
    let vfs: Arc<dyn Vfs> = Arc::new(dry.clone());
    run(&vfs, 4, &mut None, |_, _, error| Err(error)).unwrap();
    let calls = dry.trace().calls;
    let mut failures = 0;
    // Every fifth call, in each way.
    for (call, kind) in (0..calls).step_by(5).zip(FaultKind::ALL.into_iter().cycle()) {
        if kind == FaultKind::PowerOff {
            continue;
        }
        let disk = PowerLossDisk::new(call);
        disk.plan(Fault::once(Calls::All, call, kind));
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let mut durable = None;
        let ended = run(&vfs, 4, &mut durable, |index, world, error| {
            failures += 1;
            assert!(matches!(error, IndexError::Disk(_) | IndexError::Damaged { .. }), "{error}");
            world.check(index, 23);
            Ok(())
        });
        // Making the index is no job.
        assert!(ended.is_ok() || durable.is_none(), "call {call}: {ended:?}");
        if ended.is_ok() {
            let trace = disk.trace();
            assert!(trace.broken.is_empty(), "{:?}", trace.broken);
            recover(&vfs, durable.as_ref());
        }
    }
    assert!(failures > 12, "{failures}");
}
