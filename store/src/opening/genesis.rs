//! The genesis state: 4096 sentries in every shard ([spec 4.3](hedgerow_types::spec), 5), the same in every store, built
//! once per process.

use crate::Error;
use bytes::Bytes;
use hedgerow_entryfile::{Record, RunCursor, frame_len, place_run, seal_frame};
use hedgerow_hasher_api::{ScalarHasher, Span};
use hedgerow_merkle::{FinishedTwig, Forest, ShardChange};
use hedgerow_state::{OpenTwig, RunChange, ShardState, ShardWriter, TwigPlaces};
use hedgerow_types::entry::{SENTRY_LEN, encode_sentry};
use hedgerow_types::{KeyHash, LogPosition, SENTRIES_PER_SHARD, SHARDS, SerialNumber, ShardId};
use std::sync::LazyLock;

/// The genesis state, apart from where its record lies.
#[derive(Debug)]
pub(crate) struct Genesis {
    /// The run of every shard, without a place.
    pub(crate) runs: [Bytes; SHARDS],
    /// Where the entries lie within every run.
    pub(crate) spans: Vec<Span>,
    pub(crate) forest: Forest,
    pub(crate) finished: Vec<FinishedTwig>,
}

/// The genesis state.
pub(crate) fn genesis() -> Result<&'static Genesis, Error> {
    static GENESIS: LazyLock<Result<Genesis, Error>> = LazyLock::new(Genesis::build);
    GENESIS.as_ref().map_err(Clone::clone)
}

impl Genesis {
    fn build() -> Result<Self, Error> {
        let count = SENTRIES_PER_SHARD as usize;
        let mut spans = Vec::with_capacity(count);
        let mut runs: [Bytes; SHARDS] = Default::default();
        for shard in ShardId::all() {
            let mut run = Vec::with_capacity(count * frame_len(SENTRY_LEN));
            for index in 0..SENTRIES_PER_SHARD as u16 {
                let start = run.len();
                if shard.index() == 0 {
                    spans.push(Span { offset: start as u32, len: SENTRY_LEN as u32 });
                }
                encode_sentry(shard, index, &mut run);
                seal_frame(&mut run, start);
            }
            runs[shard.index()] = Bytes::from(run);
        }
        let mut forest = Forest::new();
        let changes: [ShardChange<'_>; SHARDS] = std::array::from_fn(|shard| ShardChange {
            arena: &runs[shard],
            entries: &spans,
            deactivated: &[],
            oldest_active: SerialNumber(0),
        });
        let applied = forest.apply(&ScalarHasher, &changes)?;
        Ok(Self { runs, spans, forest, finished: applied.finished })
    }

    /// The run of every shard in a record at `record`.
    pub(crate) fn runs_at(&self, record: LogPosition) -> Result<[Bytes; SHARDS], Error> {
        let lens = self.runs.each_ref().map(Bytes::len);
        let mut runs = self.runs.clone();
        for (shard, run) in ShardId::all().zip(&mut runs) {
            let mut placed = run.to_vec();
            place_run(&mut placed, Record::run_start(record, &lens, shard))
                .map_err(|what| Error::Corrupt(format!("genesis, shard {shard}: {what}")))?;
            *run = Bytes::from(placed);
        }
        Ok(runs)
    }

    /// Prefixes of the key hashes and positions of a shard's sentries, given where its run begins.
    pub(crate) fn index_entries(
        &self,
        shard: ShardId,
        run_start: LogPosition,
    ) -> Vec<(u64, LogPosition)> {
        let first = (shard.index() as u16) << 12;
        let entries = (first..=first + (SENTRIES_PER_SHARD as u16 - 1)).zip(&self.spans);
        entries
            .map(|(prefix, span)| {
                let at = run_start.plus(u64::from(span.offset));
                (KeyHash::sentry(prefix).prefix_u64(), at)
            })
            .collect()
    }

    /// What the writer knows of a shard at genesis.
    pub(crate) fn writer(
        &self,
        shard: ShardId,
        record: LogPosition,
        run_start: LogPosition,
    ) -> Result<ShardWriter, Error> {
        let mut state = ShardState::empty(shard);
        let run = RunChange {
            first_sn: SerialNumber(0),
            entries: self.spans.len() as u64,
            deactivated: &[],
            oldest_active: SerialNumber(0),
            entries_before: 0,
        };
        // Nobody will take it back.
        state.take(&run).map_err(|refused| refused.of(shard))?;
        Ok(ShardWriter { state, cursor: RunCursor::new(shard, record, run_start) })
    }

    /// The youngest twig of a shard (empty), and the places of the two that are full.
    pub(crate) fn places(
        &self,
        record: LogPosition,
        run_start: LogPosition,
    ) -> (OpenTwig, Vec<TwigPlaces>) {
        let mut open = OpenTwig::default();
        let filled = open.note_run(record, run_start, SerialNumber(0), &self.spans);
        (open, filled)
    }
}
