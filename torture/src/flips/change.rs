//! One damage to the files of a store, as data and as text.

use hedgerow_vfs::power_loss::PowerLossDisk;
use hedgerow_vfs::{OpenMode, Vfs, VfsError};
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

/// Bytes of a sector.
pub(super) const SECTOR: u64 = 512;

/// What is done to the files of a store at rest. Names are relative to the store's directory. The
/// text form is what `--replay` takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The bits of `mask` in the byte `at` are turned over: `flip:FILE:AT:MASK`, the mask in hex.
    Flip {
        /// The file.
        file: String,
        /// Offset of the byte.
        at: u64,
        /// The bits.
        mask: u8,
    },
    /// Bytes become zero: `zero:FILE:AT:LEN`.
    Zero {
        /// The file.
        file: String,
        /// Offset of the first.
        at: u64,
        /// How many; not beyond the end of the file.
        len: u64,
    },
    /// Two sectors of 512 bytes change places: `swap:FILE:A:B`.
    Swap {
        /// The file.
        file: String,
        /// Offset of the one.
        a: u64,
        /// Offset of the other.
        b: u64,
    },
    /// Bytes are put in the place of others, as many: `move:FILE:FROM:TO:LEN`.
    Move {
        /// The file.
        file: String,
        /// Offset of the bytes.
        from: u64,
        /// Offset of those that are overwritten.
        to: u64,
        /// How many.
        len: u64,
    },
    /// The file gets another length, extended with zeros: `len:FILE:LEN`.
    Len {
        /// The file.
        file: String,
        /// Its length.
        len: u64,
    },
    /// `remove:FILE`.
    Remove {
        /// The file.
        file: String,
    },
    /// `rename:FILE:TO`; what has the new name is replaced.
    Rename {
        /// The file.
        file: String,
        /// Its new name.
        to: String,
    },
    /// The file's bytes under another name too: `copy:FILE:TO`; what has that name is replaced.
    Copy {
        /// The file.
        file: String,
        /// The other name.
        to: String,
    },
}

impl Change {
    /// The files that differ afterwards.
    pub(super) fn files(&self) -> Vec<&str> {
        match self {
            Self::Flip { file, .. }
            | Self::Zero { file, .. }
            | Self::Swap { file, .. }
            | Self::Move { file, .. }
            | Self::Len { file, .. }
            | Self::Remove { file } => vec![file],
            Self::Rename { file, to } => vec![file, to],
            Self::Copy { to, .. } => vec![to],
        }
    }

    /// Whether it can look like a crash that lost what was not durable: bytes that never came to be.
    pub(super) fn loses(&self) -> bool {
        !matches!(
            self,
            Self::Flip { .. } | Self::Swap { .. } | Self::Move { .. } | Self::Copy { .. }
        )
    }

    /// Whether all of these bytes of a file are still where they were.
    pub(super) fn leaves(&self, name: &str, range: &Range<u64>) -> bool {
        let apart = |at: u64, len: u64| range.end <= at || at + len <= range.start;
        !self.files().contains(&name)
            || match self {
                Self::Flip { at, .. } => apart(*at, 1),
                Self::Zero { at, len, .. } => apart(*at, *len),
                Self::Swap { a, b, .. } => apart(*a, SECTOR) && apart(*b, SECTOR),
                Self::Move { to, len, .. } => apart(*to, *len),
                Self::Len { len, .. } => range.end <= *len,
                Self::Remove { .. } | Self::Rename { .. } | Self::Copy { .. } => false,
            }
    }

    /// Does it to the store in `dir`. Of a place that a file does not reach, nothing is damaged: a metadata
    /// engine may have given back the end of its file since the damage was chosen.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn apply(&self, disk: &PowerLossDisk, dir: &Path) -> Result<(), VfsError> {
        let open = |file: &str| disk.open(&dir.join(file), OpenMode::ReadWrite);
        match self {
            Self::Flip { file, at, mask } => disk.flip(&dir.join(file), *at, *mask),
            Self::Zero { file, at, len } => {
                let file = open(file)?;
                let len = (*len).min(file.len()?.saturating_sub(*at));
                file.write_all_at(&vec![0; len as usize], *at)
            }
            Self::Swap { file, a, b } => {
                let file = open(file)?;
                if a.max(b) + SECTOR > file.len()? {
                    return Ok(());
                }
                let (mut one, mut other) = ([0; SECTOR as usize], [0; SECTOR as usize]);
                file.read_exact_at(&mut one, *a)?;
                file.read_exact_at(&mut other, *b)?;
                file.write_all_at(&one, *b)?;
                file.write_all_at(&other, *a)
            }
            Self::Move { file, from, to, len } => {
                let file = open(file)?;
                let mut bytes = vec![0; *len as usize];
                file.read_exact_at(&mut bytes, *from)?;
                file.write_all_at(&bytes, *to)
            }
            Self::Len { file, len } => open(file)?.set_len(*len),
            Self::Remove { file } => disk.remove_file(&dir.join(file)),
            Self::Rename { file, to } => disk.rename(&dir.join(file), &dir.join(to)),
            Self::Copy { file, to } => {
                let from = open(file)?;
                let mut bytes = vec![0; from.len()? as usize];
                from.read_exact_at(&mut bytes, 0)?;
                let to = dir.join(to);
                if disk.exists(&to)? {
                    disk.remove_file(&to)?;
                }
                disk.open(&to, OpenMode::CreateNew)?.write_all_at(&bytes, 0)
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flip { file, at, mask } => write!(f, "flip:{file}:{at}:{mask:02x}"),
            Self::Zero { file, at, len } => write!(f, "zero:{file}:{at}:{len}"),
            Self::Swap { file, a, b } => write!(f, "swap:{file}:{a}:{b}"),
            Self::Move { file, from, to, len } => write!(f, "move:{file}:{from}:{to}:{len}"),
            Self::Len { file, len } => write!(f, "len:{file}:{len}"),
            Self::Remove { file } => write!(f, "remove:{file}"),
            Self::Rename { file, to } => write!(f, "rename:{file}:{to}"),
            Self::Copy { file, to } => write!(f, "copy:{file}:{to}"),
        }
    }
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        let parts: Vec<&str> = text.split(':').collect();
        let file = parts.get(1).copied().unwrap_or_default().to_owned();
        Ok(match parts[..] {
            ["flip", _, at, mask] => {
                let mask = u8::from_str_radix(mask, 16).map_err(|_| format!("mask {mask:?}"))?;
                Self::Flip { file, at: number(at)?, mask }
            }
            ["zero", _, at, len] => Self::Zero { file, at: number(at)?, len: number(len)? },
            ["swap", _, a, b] => Self::Swap { file, a: number(a)?, b: number(b)? },
            ["move", _, from, to, len] => {
                Self::Move { file, from: number(from)?, to: number(to)?, len: number(len)? }
            }
            ["len", _, len] => Self::Len { file, len: number(len)? },
            ["remove", _] => Self::Remove { file },
            ["rename", _, to] => Self::Rename { file, to: to.to_owned() },
            ["copy", _, to] => Self::Copy { file, to: to.to_owned() },
            _ => return Err(format!("{text:?} is no case; see the command's help")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_case_is_the_case() {
        let (file, to) = (|| "log/a.log".to_owned(), || "log/b.log".to_owned());
        for change in [
            Change::Flip { file: file(), at: 7, mask: 0x80 },
            Change::Zero { file: file(), at: 512, len: 4096 },
            Change::Swap { file: file(), a: 0, b: 1024 },
            Change::Move { file: file(), from: 8, to: 160, len: 96 },
            Change::Len { file: file(), len: 3 },
            Change::Remove { file: file() },
            Change::Rename { file: file(), to: to() },
            Change::Copy { file: file(), to: to() },
        ] {
            assert_eq!(change.to_string().parse(), Ok(change));
        }
        assert!("flip:log/a.log:7".parse::<Change>().is_err());
        assert!("flip:log/a.log:x:80".parse::<Change>().is_err());
    }
}
