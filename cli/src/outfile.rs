//! Files that commands write.
//!
//! ```text
//!   -                 standard output
//!   a new name        FILE.XXXX.tmp beside it ─► written ─► synced ─► renamed ─► directory synced
//!   a file            the same with --force; else refused before anything is done
//!   a device, a pipe  written into
//! ```
//!
//! **Invariant:** under the name that was asked for there is the whole file or what was there before,
//! whatever interrupts the writing.

use crate::error::CliError;
use crate::packing::Packer;
use clap::Args;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// What the commands that write a file can be told about it.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ForceArg {
    /// Overwrite a file that exists
    #[arg(long)]
    force: bool,
}

/// Whether a path stands for standard input or output.
pub(crate) fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// A file that is being written.
pub(crate) struct OutFile {
    path: PathBuf,
    to: To,
    packer: Option<Packer>,
}

enum To {
    Stdout(BufWriter<StdoutLock<'static>>),
    Beside { file: BufWriter<NamedTempFile>, target: PathBuf, force: bool },
    Into(BufWriter<File>),
}

impl OutFile {
    /// Begins a file; `-` is standard output.
    ///
    /// # Errors
    /// [`CliError::Exists`] if it is there and is not to be overwritten, [`CliError::File`].
    pub(crate) fn create(path: &Path, ForceArg { force }: ForceArg) -> Result<Self, CliError> {
        let to = if is_dash(path) {
            To::Stdout(BufWriter::new(io::stdout().lock()))
        } else {
            Self::open(path, force)?
        };
        Ok(Self { path: path.to_owned(), to, packer: None })
    }

    /// The same; what is written is packed if the name ends in `.gz` or `.zst`.
    ///
    /// # Errors
    /// As [`OutFile::create`].
    pub(crate) fn create_packed(path: &Path, force: ForceArg) -> Result<Self, CliError> {
        Ok(Self { packer: Packer::of(path), ..Self::create(path, force)? })
    }

    fn open(path: &Path, force: bool) -> Result<To, CliError> {
        let failed = |source| CliError::File { doing: "writing", path: path.to_owned(), source };
        let old = match fs::metadata(path) {
            Ok(metadata) => Some(metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        // Where a link leads, which stays.
        let target = match &old {
            Some(_) => fs::canonicalize(path).map_err(failed)?,
            None => path.to_owned(),
        };
        let mut temporary = tempfile::Builder::new();
        match &old {
            Some(metadata) if metadata.is_dir() => {
                return Err(failed(io::ErrorKind::IsADirectory.into()));
            }
            Some(metadata) if !metadata.is_file() => {
                let file = File::options().write(true).open(path).map_err(failed)?;
                return Ok(To::Into(BufWriter::new(file)));
            }
            Some(_) if !force => return Err(CliError::Exists(path.to_owned())),
            _ => {}
        }
        let permissions = old.map_or_else(new_permissions, |old| Some(old.permissions()));
        if let Some(permissions) = permissions {
            temporary.permissions(permissions);
        }
        let name = target.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
        let mut prefix = name.to_owned();
        prefix.push(".");
        let file = temporary.prefix(&prefix).suffix(".tmp").tempfile_in(parent(&target));
        Ok(To::Beside { file: BufWriter::new(file.map_err(failed)?), target, force })
    }

    /// Writes all of a small file.
    ///
    /// # Errors
    /// As [`OutFile::create`], and [`CliError::Output`].
    pub(crate) fn write(path: &Path, force: ForceArg, bytes: &[u8]) -> Result<(), CliError> {
        let mut out = Self::create(path, force)?;
        out.put(|writer| writer.write_all(bytes))?;
        out.finish()
    }

    /// Writes to it.
    ///
    /// # Errors
    /// [`CliError::File`] or [`CliError::Output`].
    pub(crate) fn put(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        let packed = match &mut self.packer {
            Some(packer) => write(packer).map(|()| packer.take()),
            None => return self.put_plain(write),
        };
        let packed = packed.map_err(|source| self.failed(source))?;
        self.put_plain(|writer| writer.write_all(&packed))
    }

    fn put_plain(
        &mut self,
        write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), CliError> {
        let written = match &mut self.to {
            To::Stdout(writer) => write(writer),
            To::Beside { file, .. } => write(file),
            To::Into(writer) => write(writer),
        };
        written.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> CliError {
        match self.to {
            To::Stdout(_) => CliError::Output(source),
            _ => CliError::File { doing: "writing", path: self.path.clone(), source },
        }
    }

    /// The file is whole: it gets its name. Without this call nothing is left of it.
    ///
    /// # Errors
    /// As [`OutFile::put`], and [`CliError::Exists`] if somebody was faster.
    pub(crate) fn finish(mut self) -> Result<(), CliError> {
        if let Some(packer) = self.packer.take() {
            let rest = packer.finish().map_err(|source| self.failed(source))?;
            self.put_plain(|writer| writer.write_all(&rest))?;
        }
        self.put_plain(|writer| writer.flush())?;
        let Self { path, to, .. } = self;
        let To::Beside { file, target, force } = to else { return Ok(()) };
        let failed = |source| CliError::File { doing: "writing", path: path.clone(), source };
        let file = file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.as_file().sync_all().map_err(failed)?;
        let renamed = match force {
            true => file.persist(&target),
            false => file.persist_noclobber(&target),
        };
        match renamed {
            Ok(_) => {}
            Err(error) if !force && error.error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(CliError::Exists(path));
            }
            Err(error) => return Err(failed(error.error)),
        }
        sync_dir(parent(&target)).map_err(failed)
    }
}

/// The directory that a path's last name is in.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Those that a file has which a program creates, less what the umask takes away.
#[cfg(unix)]
fn new_permissions() -> Option<Permissions> {
    use std::os::unix::fs::PermissionsExt;
    Some(Permissions::from_mode(0o666))
}

#[cfg(not(unix))]
fn new_permissions() -> Option<Permissions> {
    None
}

/// Makes a new name in a directory durable.
#[cfg(unix)]
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Names are durable without a word of ours.
#[cfg(not(unix))]
pub(crate) fn sync_dir(_: &Path) -> io::Result<()> {
    Ok(())
}
