//! What ends a command early, in words for the person who typed it, or as an object for a program.
//!
//! ```text
//!   error: FILE, line 5: block 9               {"code":5,"kind":"bad_input",
//!     caused by: this block has height 9, ...   "message":"FILE, line 5: block 9",
//!     stopped after 4 blocks; ...               "causes":["this block has height 9, ..."],
//!     what now: ...                             "what_now":"...","stopped":{...}}
//! ```

use crate::exit::{Kind, is_full};
use crate::text::{Counted, as_text};
use crate::what_now::what_now;
use hedgerow_proof::ProofError;
use hedgerow_types::Digest;
use serde::Serialize;
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why a command failed. Its causes are printed below it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The store says it all.
    #[error(transparent)]
    Store(Box<hedgerow::Error>),
    /// The path leads to no store, but to something else or to nothing.
    #[error("there is no store in {}: {found}", dir.display())]
    NoStore { dir: PathBuf, found: String },
    /// The store refused or failed in the middle of something.
    #[error("{doing}")]
    During {
        doing: String,
        #[source]
        source: Box<hedgerow::Error>,
    },
    /// A file of the command's own.
    #[error("{doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// What was to be written is there already.
    #[error("{} exists and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// What was asked for is absent, which has been said.
    #[error("absent")]
    Absent,
    /// Input that cannot be read, or not be unpacked.
    #[error("{input}, line {line}: {source}")]
    Reading { input: String, line: u64, source: io::Error },
    /// A line of input that cannot be used.
    #[error("{input}, line {line}: {reason}")]
    Line { input: String, line: u64, reason: String },
    /// A line of input that the store does not accept.
    #[error("{input}, line {line}: {what}")]
    Refused {
        input: String,
        line: u64,
        what: String,
        #[source]
        source: Box<hedgerow::Error>,
    },
    /// An input that cannot be used as a whole.
    #[error("{input}: {reason}")]
    Input { input: String, reason: String },
    /// A file that is no proof at all.
    #[error("{input} is not a proof")]
    NotAProof {
        input: String,
        #[source]
        source: ProofError,
    },
    /// A proof that proves nothing.
    #[error("{input} proves nothing about key {key} under root {root}")]
    NotProved {
        input: String,
        key: String,
        root: Digest,
        #[source]
        source: ProofError,
    },
    /// A proof of many keys that proves nothing.
    #[error("{input} proves nothing about {about} under root {root}")]
    NothingProved {
        input: String,
        about: String,
        root: Digest,
        #[source]
        source: ProofError,
    },
    /// The replay met another state than the recorded one.
    #[error("{0}")]
    Difference(Box<dyn Error + Send + Sync>),
    /// All blocks are right, but not the device that should have hashed them.
    #[error("the states are equal, but the CPU took the device's place: {0}")]
    Quarantined(String),
    /// It went wrong while a device hashed, whose part in it is told too.
    #[error("{source}")]
    OnDevice { source: Box<CliError>, device: String },
    /// It went wrong after some blocks, which stay.
    #[error("{source}")]
    Stopped { source: Box<CliError>, at: Stopped },
    /// A damaged store was written out as far as that goes.
    #[error("{0}")]
    Salvaged(String),
    /// A set of coins, or what goes into it. What kind of failure it is, is told where its types are known.
    #[cfg(feature = "coins")]
    #[error("{}", doing.clone().or_else(|| source.as_ref().map(ToString::to_string)).unwrap_or_default())]
    Coins {
        doing: Option<String>,
        kind: Kind,
        what_now: Option<&'static str>,
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// Ctrl-C, or SIGTERM.
    #[error("interrupted")]
    Interrupted,
    /// Arguments that do not go together.
    #[error("{0}")]
    Arguments(String),
    /// Standard output cannot be written to.
    #[error("writing to standard output")]
    Output(#[source] io::Error),
    /// A thread could not be started, or ended in a panic.
    #[error("{0}")]
    Thread(String),
}

/// Where a command stopped that applies blocks.
#[derive(Debug, Serialize)]
pub(crate) struct Stopped {
    /// Blocks of the input that were applied.
    pub(crate) blocks: u64,
    /// The last height that is durable.
    pub(crate) height: u64,
    /// Its root, if that could be told.
    #[serde(serialize_with = "root_or_null")]
    pub(crate) root: Option<Digest>,
    /// How to go on.
    #[serde(skip)]
    pub(crate) resume: String,
}

fn root_or_null<S: serde::Serializer>(
    root: &Option<Digest>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match root {
        Some(root) => as_text(root, serializer),
        None => serializer.serialize_none(),
    }
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { blocks, height, root, .. } = self;
        let blocks = Counted(*blocks, "block");
        write!(f, "stopped after {blocks}; the store is durable at height {height}")?;
        match root {
            Some(root) => write!(f, ", root {root}"),
            None => Ok(()),
        }
    }
}

impl From<hedgerow::Error> for CliError {
    fn from(error: hedgerow::Error) -> Self {
        match error {
            hedgerow::Error::NoStore(dir) => Self::NoStore { found: what_is_at(&dir), dir },
            error => Self::Store(Box::new(error)),
        }
    }
}

/// What is there instead of a store.
fn what_is_at(path: &Path) -> String {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return "it does not exist".into(),
        Err(error) => return format!("it cannot be looked at: {error}"),
    };
    if !metadata.is_dir() {
        return "it is a file, not a directory".into();
    }
    let mut names = match fs::read_dir(path) {
        Ok(names) => names.filter_map(Result::ok),
        Err(error) => return format!("it cannot be looked into: {error}"),
    };
    match names.next() {
        None => "it is an empty directory".into(),
        Some(name) => {
            let name = name.file_name();
            format!("it is a directory with other things, such as {}", name.display())
        }
    }
}

/// An error as `--json` prints it. Fields are only ever added.
#[derive(Serialize)]
struct Report {
    code: u8,
    kind: &'static str,
    message: String,
    causes: Vec<String>,
    what_now: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<serde_json::Value>,
}

impl CliError {
    /// Whether there is nothing left to say: the reader of our output has gone away, who will not
    /// miss a message, or it has been said.
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Stopped { source, .. } => source.is_silent(),
            Self::Absent => true,
            _ => false,
        }
    }

    /// A thread could not be started.
    pub(crate) fn no_thread(error: &io::Error) -> Self {
        let limits = "the limits for it are threads (ulimit -u) and address space (ulimit -v)";
        Self::Thread(format!("starting a thread: {error}; {limits}"))
    }

    /// What kind of failure it is.
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Store(source) | Self::During { source, .. } | Self::Refused { source, .. } => {
                Kind::from(&**source)
            }
            Self::NoStore { .. } => Kind::NoStore,
            Self::Exists(_) => Kind::Exists,
            Self::Absent => Kind::Absent,
            Self::Salvaged(_) => Kind::Damaged,
            Self::Reading { source, .. } => match source.kind() {
                // It was read, and does not unpack.
                io::ErrorKind::InvalidData
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::UnexpectedEof => Kind::BadInput,
                _ => Kind::Io,
            },
            Self::Line { .. } | Self::Input { .. } | Self::NotAProof { .. } => Kind::BadInput,
            Self::NotProved { .. } | Self::NothingProved { .. } => Kind::NotProved,
            Self::Difference(_) | Self::Quarantined(_) => Kind::Failed,
            Self::OnDevice { source, .. } | Self::Stopped { source, .. } => source.kind(),
            #[cfg(feature = "coins")]
            Self::Coins { kind, .. } => *kind,
            Self::Interrupted => Kind::Interrupted,
            Self::Arguments(_) => Kind::Usage,
            // Whoever read has read enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Kind::Failed,
            Self::File { .. } | Self::Output(_) | Self::Thread(_) => Kind::Io,
        }
    }

    /// What to do about it, if there is something to say.
    fn what_now(&self) -> Option<String> {
        let own = match self {
            Self::Store(source) | Self::During { source, .. } | Self::Refused { source, .. } => {
                match &**source {
                    error if what_now(error).is_some() => what_now(error),
                    error if is_full(error) => Some("make room on the disk"),
                    hedgerow::Error::Unfinished(_) => {
                        Some("remove the directory, and `hedgerow create` it again")
                    }
                    hedgerow::Error::WrongHeight { given, expected } if given < expected => {
                        Some("--skip-applied passes over the blocks that are in the store")
                    }
                    _ => None,
                }
            }
            Self::File { source, .. } | Self::Output(source)
                if source.kind() == io::ErrorKind::StorageFull =>
            {
                Some("make room on the disk")
            }
            Self::Exists(_) => Some("--force overwrites it"),
            Self::Salvaged(_) => {
                Some("keep the damaged files; `hedgerow apply` takes what was written")
            }
            #[cfg(feature = "coins")]
            Self::Coins { what_now, .. } => *what_now,
            Self::OnDevice { source, .. } => return source.what_now(),
            Self::Stopped { source, at } => {
                let first = match (source.what_now(), source.kind()) {
                    (Some(first), _) => first,
                    (None, Kind::BadInput) => "mend the input".to_owned(),
                    (None, _) => return Some(at.resume.clone()),
                };
                // It has been said how to go on.
                let said = first.contains("--skip-applied");
                return Some(if said { first } else { format!("{first}; then {}", at.resume) });
            }
            _ => None,
        };
        own.or_else(|| self.kind().advice()).map(str::to_owned)
    }

    /// What led to it, from the nearest. A cause that its effect has already quoted is left out.
    fn causes(&self) -> Vec<String> {
        let mut said = self.to_string();
        let mut causes = Vec::new();
        let mut cause = self.inner().source();
        while let Some(error) = cause {
            let reason = error.to_string();
            if !said.contains(&reason) {
                said.push_str(&reason);
                causes.push(reason);
            }
            cause = error.source();
        }
        causes
    }

    /// The error without what was only added to it.
    fn inner(&self) -> &Self {
        match self {
            Self::OnDevice { source, .. } | Self::Stopped { source, .. } => source.inner(),
            other => other,
        }
    }

    /// The error, its causes and what to do, one a line.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("error: {self}");
        for cause in self.causes() {
            text.push_str("\n  caused by: ");
            text.push_str(&cause);
        }
        match self {
            Self::OnDevice { device, .. } => text.push_str(&format!("\n  {device}")),
            Self::Stopped { at, .. } => text.push_str(&format!("\n  {at}")),
            _ => {}
        }
        if let Some(advice) = self.what_now() {
            text.push_str("\n  what now: ");
            text.push_str(&advice);
        }
        text
    }

    /// The same as one JSON object.
    pub(crate) fn json(&self) -> String {
        let kind = self.kind();
        let report = Report {
            code: kind.code(),
            kind: kind.name(),
            message: self.to_string(),
            causes: self.causes(),
            what_now: self.what_now(),
            device: match self {
                Self::OnDevice { device, .. } => Some(device.clone()),
                _ => None,
            },
            stopped: match self {
                Self::Stopped { at, .. } => serde_json::to_value(at).ok(),
                _ => None,
            },
        };
        json_of(&report)
    }
}

/// What clap has to say about the arguments, as one JSON object.
pub(crate) fn usage_json(error: &clap::Error) -> String {
    let text = error.to_string();
    let message = text.strip_prefix("error: ").unwrap_or(&text);
    json_of(&Report {
        code: Kind::Usage.code(),
        kind: Kind::Usage.name(),
        message: message.split("\n\n").next().unwrap_or_default().trim().to_owned(),
        causes: Vec::new(),
        what_now: Kind::Usage.advice().map(str::to_owned),
        device: None,
        stopped: None,
    })
}

fn json_of(report: &Report) -> String {
    // Text, numbers and lists of them: nothing that JSON cannot hold.
    serde_json::to_string(report).unwrap_or_else(|error| format!("{{\"message\":\"{error}\"}}"))
}

/// `map_err` for the store's errors: says what was being done.
pub(crate) fn during(doing: impl Into<String>) -> impl FnOnce(hedgerow::Error) -> CliError {
    let doing = doing.into();
    move |source| CliError::During { doing, source: Box::new(source) }
}
