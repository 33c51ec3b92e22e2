//! What can go wrong with a set of coins, as a kind of failure.

use crate::error::CliError;
use crate::exit::{Kind, is_full};
use hedgerow::disk::VfsErrorKind;
use hedgerow_coins::{BlockFileError, CoinStoreError, SnapshotError, TransferError};
use std::io;

/// `map_err` for a store of coins.
pub(super) fn store_failed(error: CoinStoreError) -> CliError {
    let (kind, what_now) = (of_store(&error), advice(&error));
    CliError::Coins { doing: None, kind, what_now, source: Some(Box::new(error)) }
}

/// The same; says what was being done.
pub(super) fn while_doing(doing: String) -> impl FnOnce(CoinStoreError) -> CliError {
    move |error| {
        let (kind, what_now) = (of_store(&error), advice(&error));
        CliError::Coins { doing: Some(doing), kind, what_now, source: Some(Box::new(error)) }
    }
}

/// `map_err` for what goes from a snapshot into a store, or back.
pub(super) fn transfer_failed(error: TransferError) -> CliError {
    let (kind, what_now) = match &error {
        TransferError::Stopped => return CliError::Interrupted,
        TransferError::Store(error) => (of_store(error), advice(error)),
        TransferError::Snapshot(SnapshotError::Io { source, .. }) => (of_io(source), None),
        TransferError::Snapshot(_) => (Kind::BadInput, None),
        TransferError::Differs { .. } => (
            Kind::NotProved,
            Some(
                "believe nothing of the snapshot: get it again, or the digest that it should have",
            ),
        ),
        TransferError::NoBlock => (Kind::Absent, None),
        TransferError::NoHeight => (Kind::Usage, Some("--height N says it")),
        _ => (Kind::Failed, None),
    };
    CliError::Coins { doing: None, kind, what_now, source: Some(Box::new(error)) }
}

/// `map_err` for files of blocks.
pub(super) fn files_failed(error: BlockFileError) -> CliError {
    let kind = match &error {
        BlockFileError::Io { source, .. } => of_io(source),
        BlockFileError::Temporary(_) => Kind::Io,
        _ => Kind::BadInput,
    };
    CliError::Coins { doing: None, kind, what_now: None, source: Some(Box::new(error)) }
}

fn of_io(error: &io::Error) -> Kind {
    match error.kind() {
        // It was read, and does not unpack, or ends too early.
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
            Kind::BadInput
        }
        _ => Kind::Io,
    }
}

fn of_store(error: &CoinStoreError) -> Kind {
    use CoinStoreError as Failed;
    match error {
        error if error.is_damage() => Kind::Damaged,
        Failed::Store(error) => Kind::from(error),
        Failed::Flush(cause) => of_store(cause),
        Failed::Height { .. }
        | Failed::Parent { .. }
        | Failed::Network { .. }
        | Failed::Effect(_)
        | Failed::Missing(_)
        | Failed::Exists(_)
        | Failed::CoinHeight { .. }
        | Failed::TotalAmount(_) => Kind::BadInput,
        Failed::CacheFull { .. } | Failed::BlockTooLarge { .. } | Failed::Option { .. } => {
            Kind::Usage
        }
        Failed::NoBlock | Failed::TooDeep { .. } | Failed::NoRecord { .. } => Kind::Absent,
        Failed::Disk(error) => match error.kind() {
            VfsErrorKind::InUse => Kind::InUse,
            _ => Kind::Io,
        },
        Failed::Records(_) | Failed::Thread(_) | Failed::Stopped => Kind::Io,
        _ => Kind::Failed,
    }
}

fn advice(error: &CoinStoreError) -> Option<&'static str> {
    use CoinStoreError as Failed;
    match error {
        Failed::CacheFull { .. } | Failed::BlockTooLarge { .. } => {
            Some("--cache-mb N gives it more memory")
        }
        Failed::Flush(cause) => advice(cause),
        Failed::Store(hedgerow::Error::UnfinishedCopy(_)) => {
            Some("begin the import again, or remove the directory")
        }
        Failed::Store(error) if is_full(error) => Some("make room on the disk"),
        Failed::Disk(error) if error.kind() == VfsErrorKind::Full => Some("make room on the disk"),
        _ => None,
    }
}
