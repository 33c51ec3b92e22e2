//! What a block did, with coins in their stored form, and its bytes.

use super::BlockRecord;
use crate::coin::{Coin, KEY_LEN, outpoint_of};
use crate::store::below::decode;
use crate::store::{Bytes, CoinStoreError, Key, Tip};
use bitcoin::BlockHash;
use bitcoin::hashes::Hash;

/// The kinds of records.
const CONNECT: u8 = 1;
const DISCONNECT: u8 = 2;
/// Instead of a parent's height.
const NO_PARENT: u32 = u32::MAX;
/// Bytes of a coin in a record beside its stored form.
const COIN_LEN: usize = KEY_LEN + 2;
/// Bytes of the stored form of most coins, or more.
const USUAL_LEN: usize = 32;

/// What a block did to the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) tip: Tip,
    pub(crate) parent: Option<Tip>,
    pub(crate) spent: Vec<(Key, Bytes)>,
    pub(crate) created: Vec<(Key, Bytes)>,
    /// Satoshi; saturating.
    pub(crate) spent_amount: u64,
    pub(crate) created_amount: u64,
}

impl Record {
    /// With its coins as values.
    pub(crate) fn show(&self) -> Result<BlockRecord, CoinStoreError> {
        let coins = |coins: &[(Key, Bytes)]| {
            coins.iter().map(|(key, coin)| Ok((outpoint_of(key), decode(key, coin)?))).collect()
        };
        let (spent, created) = (coins(&self.spent), coins(&self.created));
        let (spent, created): (Result<_, CoinStoreError>, Result<_, CoinStoreError>) =
            (spent, created);
        Ok(BlockRecord { tip: self.tip, parent: self.parent, spent: spent?, created: created? })
    }
}

/// The record of a block that is being connected, as far as it is known before the set has taken it: what it creates.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    tip: Tip,
    parent: Option<Tip>,
    /// As they are in a body.
    created: Vec<u8>,
    count: u32,
    /// Satoshi; saturating.
    created_amount: u64,
}

impl Draft {
    /// Of a block that creates nothing yet; with memory of another draft.
    pub(crate) fn new(tip: Tip, parent: Option<Tip>, mut memory: Vec<u8>) -> Self {
        memory.clear();
        Self { tip, parent, created: memory, count: 0, created_amount: 0 }
    }

    /// Memory for the next one.
    pub(crate) fn into_memory(self) -> Vec<u8> {
        self.created
    }

    /// It creates a coin, whose stored form is returned.
    pub(crate) fn create(&mut self, key: &Key, coin: &Coin) -> Bytes {
        self.created_amount = self.created_amount.saturating_add(coin.amount().to_sat());
        self.count += 1;
        self.created.extend_from_slice(key);
        let at = self.created.len();
        self.created.extend_from_slice(&[0; 2]);
        coin.encode(&mut self.created);
        let bytes = self.created.get(at + 2..).unwrap_or_default();
        // A coin has at most some 10,000 bytes.
        let (len, bytes) = (bytes.len() as u16, Bytes::from(bytes));
        if let Some(place) = self.created.get_mut(at..at + 2) {
            place.copy_from_slice(&len.to_le_bytes());
        }
        bytes
    }

    pub(crate) const fn tip(&self) -> Tip {
        self.tip
    }

    pub(crate) const fn parent(&self) -> Option<Tip> {
        self.parent
    }

    pub(crate) const fn created(&self) -> (u64, u64) {
        (self.count as u64, self.created_amount)
    }

    /// Appends the body of the record that it was connected, and spent these coins with this amount.
    pub(crate) fn encode<'a>(
        &self,
        spent: impl ExactSizeIterator<Item = (&'a Key, &'a Bytes)>,
        spent_amount: u64,
        out: &mut Vec<u8>,
    ) {
        out.reserve(100 + spent.len() * (COIN_LEN + USUAL_LEN) + self.created.len());
        out.push(CONNECT);
        put_tip(&self.tip, out);
        let (height, block) = self
            .parent
            .map_or((NO_PARENT, BlockHash::all_zeros()), |parent| (parent.height, parent.block));
        put_tip(&Tip { height, block }, out);
        out.extend_from_slice(&spent_amount.to_le_bytes());
        out.extend_from_slice(&self.created_amount.to_le_bytes());
        // A block has at most 4 MB.
        out.extend_from_slice(&(spent.len() as u32).to_le_bytes());
        for (key, coin) in spent {
            out.extend_from_slice(key);
            out.extend_from_slice(&(coin.len() as u16).to_le_bytes());
            out.extend_from_slice(coin);
        }
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.created);
    }
}

fn put_tip(tip: &Tip, out: &mut Vec<u8>) {
    out.extend_from_slice(&tip.height.to_le_bytes());
    out.extend_from_slice(tip.block.as_byte_array());
}

/// Appends the body of the record that a block was disconnected.
pub(super) fn encode_disconnect(tip: &Tip, out: &mut Vec<u8>) {
    out.push(DISCONNECT);
    put_tip(tip, out);
}

/// What a body says of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Connect { tip: Tip, parent: Option<Tip> },
    Disconnect(Tip),
}

impl Step {
    /// That of a body; none if it is no body. What coins follow is not looked at.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        fields.step()
    }
}

/// A connected block from its body, all of it; none if it is none.
pub(super) fn decode_connect(body: &[u8]) -> Option<Record> {
    let mut fields = Fields(body);
    let Step::Connect { tip, parent } = fields.step()? else { return None };
    let spent_amount = u64::from_le_bytes(fields.array()?);
    let created_amount = u64::from_le_bytes(fields.array()?);
    let (spent, created) = (fields.coins()?, fields.coins()?);
    let record = Record { tip, parent, spent, created, spent_amount, created_amount };
    fields.0.is_empty().then_some(record)
}

/// Bytes that are taken field by field.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (first, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(first)
    }

    fn tip(&mut self) -> Option<Tip> {
        let height = u32::from_le_bytes(self.array()?);
        Some(Tip { height, block: BlockHash::from_byte_array(self.array()?) })
    }

    fn step(&mut self) -> Option<Step> {
        match self.array()? {
            [CONNECT] => {
                let (tip, parent) = (self.tip()?, self.tip()?);
                if parent.height != NO_PARENT {
                    return Some(Step::Connect { tip, parent: Some(parent) });
                }
                // With any other hash it was never written.
                let is_none = parent.block == BlockHash::all_zeros();
                is_none.then_some(Step::Connect { tip, parent: None })
            }
            [DISCONNECT] => Some(Step::Disconnect(self.tip()?)).filter(|_| self.0.is_empty()),
            _ => None,
        }
    }

    fn coins(&mut self) -> Option<Vec<(Key, Bytes)>> {
        let count = u32::from_le_bytes(self.array()?) as usize;
        // What is there decides how much memory is taken.
        let mut coins = Vec::with_capacity(count.min(self.0.len() / COIN_LEN));
        for _ in 0..count {
            let key = self.array()?;
            let len = u16::from_le_bytes(self.array()?);
            coins.push((key, self.bytes(usize::from(len))?.into()));
        }
        Some(coins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::{Amount, ScriptBuf};

    /// A record, and its body.
    pub(crate) fn record(height: u32, spent: usize, created: usize) -> (Record, Vec<u8>) {
        let tip =
            |height: u32| Tip { height, block: BlockHash::from_byte_array([height as u8; 32]) };
        let coin = |number: usize| {
            let script = ScriptBuf::from_bytes(vec![0x51; number]);
            Coin::new(height, false, Amount::from_sat(number as u64 + 1), script).unwrap()
        };
        let (tip, parent) = (tip(height), height.checked_sub(2).map(|_| tip(height - 1)));
        let mut draft = Draft::new(tip, parent, Vec::new());
        let mut put = |key, coin: &Coin| (key, draft.create(&key, coin));
        let created = (0..created).map(|number| put([100 + number as u8; KEY_LEN], &coin(number)));
        let created: Vec<_> = created.collect();
        let spent = (0..spent).map(|number| {
            let mut bytes = Vec::new();
            coin(number).encode(&mut bytes);
            ([number as u8; KEY_LEN], Bytes::from(bytes))
        });
        let spent: Vec<_> = spent.collect();
        let spent_amount = (1..=spent.len() as u64).sum();
        let mut body = Vec::new();
        draft.encode(spent.iter().map(|(key, coin)| (key, coin)), spent_amount, &mut body);
        let (_, created_amount) = draft.created();
        (Record { tip, parent, spent, created, spent_amount, created_amount }, body)
    }

    #[test]
    fn bodies_decode_to_what_they_were_and_to_nothing_else() {
        for (height, spent, created) in [(1, 0, 0), (2, 3, 5), (7, 40, 0)] {
            let (record, mut body) = record(height, spent, created);
            assert_eq!(decode_connect(&body).as_ref(), Some(&record));
            let step = Step::Connect { tip: record.tip, parent: record.parent };
            assert_eq!(Step::of(&body), Some(step));
            let shown = record.show().unwrap();
            assert_eq!((shown.spent.len(), shown.created.len()), (spent, created));
            let amount = |coins: &[(bitcoin::OutPoint, Coin)]| {
                coins.iter().map(|(_, coin)| coin.amount().to_sat()).sum::<u64>()
            };
            assert_eq!(amount(&shown.spent), record.spent_amount);
            assert_eq!(amount(&shown.created), record.created_amount);
            for len in 0..body.len() {
                assert_eq!(decode_connect(&body[..len]), None);
            }
            body.push(0);
            assert_eq!(decode_connect(&body), None);
        }
        let mut body = Vec::new();
        encode_disconnect(&record(9, 0, 0).0.tip, &mut body);
        assert_eq!(Step::of(&body), Some(Step::Disconnect(record(9, 0, 0).0.tip)));
        assert_eq!(decode_connect(&body), None);
        body.push(0);
        assert_eq!(Step::of(&body), None);
        assert_eq!(Step::of(&[3]), None);
    }
}
