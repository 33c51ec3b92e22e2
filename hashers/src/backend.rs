//! What is said of a backend, and what a family of them is.

use crate::Tuning;
use hedgerow_hasher_api::BatchHasher;
use std::{sync::Arc, time::Duration};

/// A hashing backend that this version knows, usable here or not.
///
/// ```
/// use hedgerow_hashers::{Backend, available};
/// let backends = available();
/// let usable: Vec<&Backend> = backends.iter().filter(|backend| backend.is_usable()).collect();
/// assert!(usable.iter().any(|backend| backend.name == hedgerow_hashers::DEFAULT));
/// for backend in backends.iter().filter(|backend| !backend.is_usable()) {
///     println!("{} cannot be used: {}", backend.name, backend.why_not.as_deref().unwrap_or_default());
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Backend {
    /// What selects it: in [`by_name`](crate::by_name), in a store's options, on the command line.
    pub name: String,
    /// What it runs on, for a person: instructions, or a device.
    pub device: String,
    /// Why it cannot be used here, for a person. `None`: it can.
    pub why_not: Option<String>,
    /// How fast it was measured to be on this machine, if it was: time per node of a full batch on
    /// one thread.
    pub nanoseconds_per_node: Option<f64>,
    /// What it hands batches of which size to, as measured on this machine; empty if it hashes all
    /// of them itself.
    pub plan: Vec<PlannedRange>,
    /// Of [`auto()`](crate::auto()): what was measured of every usable device, from which the plan follows.
    /// Empty for the others.
    pub measured: Vec<Measured>,
}

/// Batches of some sizes, and what hashes them.
///
/// ```
/// use hedgerow_hashers::PlannedRange;
/// /// What a plan does with a batch of `size` items.
/// fn who(plan: &[PlannedRange], size: usize) -> Option<&str> {
///     let mut ranges = plan.iter();
///     let range = ranges.find(|range| range.from <= size && range.to.is_none_or(|to| size <= to))?;
///     Some(&range.backend)
/// }
/// let range = |from, to, backend: &str| PlannedRange { from, to, backend: backend.into() };
/// let plan = [range(1, Some(999), "cpu"), range(1_000, None, "cuda:0")];
/// assert_eq!((who(&plan, 999), who(&plan, 1_000)), (Some("cpu"), Some("cuda:0")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedRange {
    /// Nodes, or messages of equal length, in the smallest of these batches.
    pub from: usize,
    /// In the largest; `None` if there is none.
    pub to: Option<usize>,
    /// Name of the backend that hashes them, or the first of them.
    pub backend: String,
}

/// What [`auto()`](crate::auto()) measured of a device at one kind of work, beside the CPU.
///
/// ```
/// use hedgerow_hashers::{Cost, Measured, Work};
/// use std::time::Duration;
/// let measured = Measured {
///     backend: "cuda:0".into(),
///     work: Work::Nodes,
///     device: Cost { call: Duration::from_micros(20), item_nanoseconds: 1.0 },
///     cpu: Cost { call: Duration::ZERO, item_nanoseconds: 11.0 },
///     faster_from: Some(2_000),                // where the two lines cross
/// };
/// let time = |cost: Cost| cost.call.as_nanos() as f64 + 2_000.0 * cost.item_nanoseconds;
/// assert_eq!(time(measured.device), time(measured.cpu));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Name of the device's backend.
    pub backend: String,
    /// The kind of work.
    pub work: Work,
    /// What it costs on the device, its transfers included.
    pub device: Cost,
    /// What it costs on the CPU, on all cores.
    pub cpu: Cost,
    /// Number of items from which the device is faster; `None`: it never is.
    pub faster_from: Option<usize>,
}

/// A kind of work, and what its items are.
///
/// ```
/// use hedgerow_hashers::Work;
/// let from = 2_000;
/// let line = format!("from {from} {} on", Work::Nodes.name());
/// assert_eq!(line, "from 2000 nodes on");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// A batch of nodes.
    Nodes,
    /// A batch of messages of 150 bytes, an entry with a short key and value.
    Messages,
    /// A block's tree in rows that stay on the device ([`Tuning::resident_from`]): dirty pages of active
    /// bits. The CPU's cost is that of the two nodes above each.
    Pages,
}

impl Work {
    /// What its items are called: `nodes`, `messages`, `pages`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nodes => "nodes",
            Self::Messages => "messages",
            Self::Pages => "pages",
        }
    }
}

/// The time of a batch as a function of its size: `call`, and so much more per item.
///
/// ```
/// use hedgerow_hashers::Cost;
/// use std::time::Duration;
/// let cost = Cost { call: Duration::from_micros(20), item_nanoseconds: 2.0 };
/// let batch = cost.call + Duration::from_nanos((1_000.0 * cost.item_nanoseconds) as u64);
/// assert_eq!(batch, Duration::from_micros(22));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Time of a batch of any size.
    pub call: Duration,
    /// Nanoseconds per item.
    pub item_nanoseconds: f64,
}

impl Backend {
    pub(crate) fn new(name: impl Into<String>, device: impl Into<String>) -> Self {
        let (name, device) = (name.into(), device.into());
        let (plan, measured) = (vec![], vec![]);
        Self { name, device, why_not: None, nanoseconds_per_node: None, plan, measured }
    }

    /// Whether [`by_name`](crate::by_name) gives it on this machine.
    pub fn is_usable(&self) -> bool {
        self.why_not.is_none()
    }
}

/// A backend, or why there is none, for a person.
pub(crate) type Opened = Result<Arc<dyn BatchHasher>, String>;

/// The backends of one crate. Their names are that of the family, or begin with it and a colon.
pub(crate) struct Family {
    pub(crate) name: &'static str,
    /// All of them, usable or not.
    pub(crate) backends: fn() -> Vec<Backend>,
    /// The one whose name has this after the colon; `None`: without a colon.
    /// A device comes as it is; what decides between it and the CPU follows the tuning.
    pub(crate) open: fn(Option<&str>, Tuning) -> Opened,
    /// Whether its backends are devices that `auto` may choose.
    pub(crate) automatic: bool,
}
