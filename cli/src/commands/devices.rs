//! `devices`: the hashing backends of this program, and what this machine makes of them.

use crate::error::CliError;
use crate::output::Output;
use crate::table::Columns;
use clap::Args;
use hedgerow::hasher::{self, Backend, Cost, Measured, PlannedRange};
use serde::Serialize;
use std::fmt;

/// List the hashing backends: what each runs on, whether it can be used here, how fast it is
#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {}

/// `{"name", "device", "usable", "why_not", "default", "nanoseconds_per_node", "plan": [{"from",
/// "to", "backend"}], "measured": [{"backend", "work", "call_nanoseconds", "item_nanoseconds",
/// "cpu_call_nanoseconds", "cpu_item_nanoseconds", "faster_from"}]}`, one line for each backend.
#[derive(Serialize)]
struct DeviceReport<'a> {
    name: &'a str,
    /// Instructions, or what the device calls itself.
    device: &'a str,
    usable: bool,
    /// Null if it is usable.
    why_not: Option<&'a str>,
    /// Whether it is taken if none is named.
    default: bool,
    /// Null if it was not measured.
    nanoseconds_per_node: Option<f64>,
    /// Whom it hands batches of which size to; empty if it hashes all of them itself.
    plan: Vec<RangeReport<'a>>,
    /// What the plan of `auto` follows from; empty if nothing was measured.
    measured: Vec<MeasuredReport<'a>>,
}

/// Nodes in a batch, and the backend that hashes them or the first of them.
#[derive(Serialize)]
struct RangeReport<'a> {
    from: usize,
    /// Null: any number.
    to: Option<usize>,
    backend: &'a str,
}

/// A device at one kind of work, beside the CPU.
#[derive(Serialize)]
struct MeasuredReport<'a> {
    backend: &'a str,
    /// nodes, messages or pages: what the items are.
    work: &'static str,
    call_nanoseconds: u64,
    item_nanoseconds: f64,
    cpu_call_nanoseconds: u64,
    cpu_item_nanoseconds: f64,
    /// Null: never.
    faster_from: Option<usize>,
}

impl<'a> MeasuredReport<'a> {
    fn new(measured: &'a Measured) -> Self {
        let Measured { backend, work, device, cpu, faster_from } = measured;
        let nanoseconds = |cost: &Cost| u64::try_from(cost.call.as_nanos()).unwrap_or(u64::MAX);
        Self {
            backend,
            work: work.name(),
            call_nanoseconds: nanoseconds(device),
            item_nanoseconds: device.item_nanoseconds,
            cpu_call_nanoseconds: nanoseconds(cpu),
            cpu_item_nanoseconds: cpu.item_nanoseconds,
            faster_from: *faster_from,
        }
    }

    /// A call and an item.
    fn costs(&self) -> [String; 2] {
        let text = |call: u64, item: f64| format!("{:.1} µs + {item:.1} ns", call as f64 / 1e3);
        [
            text(self.call_nanoseconds, self.item_nanoseconds),
            text(self.cpu_call_nanoseconds, self.cpu_item_nanoseconds),
        ]
    }
}

impl MeasuredReport<'_> {
    /// A row of the table.
    fn row(&self) -> [String; 5] {
        let Self { backend, work, .. } = self;
        let [device, cpu] = self.costs();
        let from = self.faster_from.map_or("never".to_owned(), |from| from.to_string());
        [(*backend).to_owned(), (*work).to_owned(), device, cpu, from]
    }
}

impl<'a> DeviceReport<'a> {
    fn new(backend: &'a Backend) -> Self {
        let plan = backend.plan.iter().map(|PlannedRange { from, to, backend }| RangeReport {
            from: *from,
            to: *to,
            backend,
        });
        Self {
            name: &backend.name,
            device: &backend.device,
            usable: backend.is_usable(),
            why_not: backend.why_not.as_deref(),
            default: backend.name == hasher::DEFAULT,
            nanoseconds_per_node: backend.nanoseconds_per_node,
            plan: plan.collect(),
            measured: backend.measured.iter().map(MeasuredReport::new).collect(),
        }
    }
}

impl DeviceReport<'_> {
    /// A row of the table.
    fn row(&self) -> [String; 4] {
        let Self { name, device, .. } = self;
        let speed = match self.nanoseconds_per_node {
            Some(speed) => format!("{speed:.1}"),
            None => "-".to_owned(),
        };
        let usable = match (self.why_not, self.default) {
            (Some(why_not), _) => format!("no: {why_not}"),
            (None, true) => "yes, the default".to_owned(),
            (None, false) => "yes".to_owned(),
        };
        [(*name).to_owned(), (*device).to_owned(), speed, usable]
    }
}

impl RangeReport<'_> {
    /// A row of the table.
    fn row(&self) -> [String; 2] {
        let sizes = match self.to {
            None => format!("{} and more", self.from),
            Some(to) if to == self.from => to.to_string(),
            Some(to) => format!("{} to {to}", self.from),
        };
        [sizes, self.backend.to_owned()]
    }
}

/// Everything, for people.
struct Listed<'a>(Vec<DeviceReport<'a>>);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Columns::new(["backend", "runs on", "ns/node", "usable"]).right(2);
        self.0.iter().for_each(|report| table.row(report.row()));
        write!(f, "{table}")?;
        for report in self.0.iter().filter(|report| !report.plan.is_empty()) {
            let mut plan = Columns::new(["batch of nodes", "begins with"]);
            report.plan.iter().for_each(|range| plan.row(range.row()));
            write!(f, "\n\n{}, as measured on this machine:\n{plan}", report.name)?;
            if !report.measured.is_empty() {
                let headings = ["backend", "work", "call + item", "on the CPU", "faster from"];
                let mut costs = Columns::new(headings);
                report.measured.iter().for_each(|measured| costs.row(measured.row()));
                write!(f, "\n{costs}")?;
            }
        }
        Ok(())
    }
}

pub(super) fn run(_: &DevicesArgs, out: Output) -> Result<(), CliError> {
    let backends = hasher::available();
    let reports: Vec<_> = backends.iter().map(DeviceReport::new).collect();
    if !out.json() {
        return out.note(Listed(reports));
    }
    reports.iter().try_for_each(|report| out.json_line(report))
}
