//! The kernels of this CPU, each pinned, by batch size.

use crate::report;
use hedgerow_benches::hashing::{Messages, on_one_thread, pinned_kernels};
use hedgerow_compare::{
    Failure, Race, contender::SHA2, messages::MessageInput, nodes::NodeInput, race::Effort,
};
use hedgerow_hasher_api::BatchHasher;
use hedgerow_hasher_cpu::CpuHasher;

const NODE_BATCHES: [usize; 8] = [1, 2, 4, 8, 16, 64, 1024, 1_000_000];
const MESSAGE_BATCHES: [usize; 4] = [16, 256, 1024, 262_144];
const KEYS: usize = 1024;

/// The kernels `names`, or all.
pub(crate) fn table(effort: Effort, names: &[String]) -> Result<String, Failure> {
    let chosen = on_one_thread(CpuHasher::new())?;
    let mut lines = report::head(effort, &chosen.capabilities().device);
    let (pinned, missing) = pinned_kernels()?;
    lines.extend(missing.iter().map(|why| format!("!!! not measured: {why}")));
    let wanted = |name: &str| names.is_empty() || names.iter().any(|n| name == format!("cpu:{n}"));
    let mut hashers = vec![("cpu".to_owned(), chosen)];
    hashers.extend(pinned.into_iter().filter(|(name, _)| wanted(name)));
    let unknown = names.iter().filter(|n| !hashers.iter().any(|(h, _)| *h == format!("cpu:{n}")));
    lines.extend(unknown.map(|name| format!("!!! no kernel {name:?} here")));

    let mut races = vec![];
    for count in NODE_BATCHES {
        let input = NodeInput::new(count);
        let ours = hashers.iter().map(|(name, by)| input.hedgerow(name.clone(), by));
        let contenders = std::iter::once(input.sha2()).chain(ours).collect();
        races.push((format!("nodes {count}"), Race::run(effort, count, contenders, vec![])?));
    }
    let entries =
        MESSAGE_BATCHES.map(|count| (format!("entries {count}"), Messages::entries(count)));
    let keys = [(format!("keys {KEYS}"), Messages::keys(KEYS))];
    for (column, messages) in entries.into_iter().chain(keys) {
        let input = MessageInput::new(messages);
        let ours = hashers.iter().map(|(name, by)| input.hedgerow(name.clone(), by));
        let contenders = std::iter::once(input.sha2()).chain(ours).collect();
        races.push((column, Race::run(effort, input.count(), contenders, vec![])?));
    }
    let races: Vec<_> = races.iter().map(|(column, race)| (column.clone(), race)).collect();
    lines.extend(report::by_batch("ns each", &races, |race, name| {
        Some(format!("{:.1}", race.each(name)?.nanoseconds))
    }));
    lines.extend(report::by_batch("cycles each", &races, |race, name| {
        Some(format!("{:.0}", race.each(name)?.cycles))
    }));
    lines.extend(report::by_batch("times as fast as sha2", &races, |race, name| {
        Some(format!("{:.2}", race.ratio(SHA2, name)?))
    }));
    lines.push(String::new());
    Ok(lines.join("\n"))
}
