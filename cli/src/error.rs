//! What ends a command early, in words for the person who typed it.

use crate::what_now::what_now;
use hedgerow_proof::ProofError;
use hedgerow_types::Digest;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

/// Why a command failed. Its causes are printed below it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The store says it all.
    #[error(transparent)]
    Store(Box<hedgerow::Error>),
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
    /// An input that ends too early.
    #[error("{input}: {reason}")]
    Input { input: String, reason: String },
    /// A proof that proves nothing.
    #[error("{} proves nothing about key {key} under root {root}", path.display())]
    NotProved {
        path: PathBuf,
        key: String,
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
    /// A damaged store was written out as far as that goes.
    #[error("{0}")]
    Salvaged(String),
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

impl From<hedgerow::Error> for CliError {
    fn from(error: hedgerow::Error) -> Self {
        Self::Store(Box::new(error))
    }
}

impl CliError {
    /// Whether the reader of our output has gone away, who will not miss a message.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The exit code of the program.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Arguments(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    /// What the store said, if it was the store.
    fn of_store(&self) -> Option<&hedgerow::Error> {
        match self {
            Self::Store(source) | Self::During { source, .. } | Self::Refused { source, .. } => {
                Some(source)
            }
            Self::OnDevice { source, .. } => source.of_store(),
            _ => None,
        }
    }

    /// The error and its causes, one a line. A cause that its effect has already quoted is left out.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            let reason = error.to_string();
            if !text.contains(&reason) {
                text.push_str("\n  caused by: ");
                text.push_str(&reason);
            }
            cause = error.source();
        }
        if let Some(line) = self.of_store().and_then(what_now) {
            text.push_str("\n  ");
            text.push_str(line);
        }
        if let Self::OnDevice { device, .. } = self {
            text.push_str("\n  ");
            text.push_str(device);
        }
        text
    }
}

/// `map_err` for the store's errors: says what was being done.
pub(crate) fn during(doing: impl Into<String>) -> impl FnOnce(hedgerow::Error) -> CliError {
    let doing = doing.into();
    move |source| CliError::During { doing, source: Box::new(source) }
}
