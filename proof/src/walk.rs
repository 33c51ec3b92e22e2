//! The one way through the tree over a set of entries: all who make, measure or verify proofs go it.
//!
//! ```text
//!  level 68         state root
//!  level 64..67     State     │ a part that holds no entry of the set is one node, taken as it is;
//!  level 64 = 12+k  shard     │ any other part is joined from its two halves, the left one first
//!  level 12..12+k   Upper     │
//!  level 12         twig = node(11, left root, right root)
//!  level 11..0      Left      │ the leaf: the hash of an entry          ◄── cursor over the entries
//!  level 11..8      Right     │ the page: 256 active bits, raw          ◄── cursor over their pages
//! ```
//!
//! The entries are in the order in which they are met: by shard and serial number. So it takes no look-up to
//! tell whether a part holds one: the next entry does, or none.
//!
//! **Invariant:** the depth is at most 4 + 51 + 11 and some, whatever the input; nothing is allocated.

use hedgerow_types::{
    ACTIVE_BITS_LEVEL, SHARDS, STATE_LEVELS, STATE_ROOT_LEVEL, SerialNumber, ShardId,
    TWIG_ROOT_LEVEL,
};

/// Where an entry stands.
pub(crate) trait Placed: Copy {
    /// Its shard.
    fn shard(&self) -> ShardId;
    /// Its serial number.
    fn sn(&self) -> SerialNumber;
}

impl Placed for (ShardId, SerialNumber) {
    fn shard(&self) -> ShardId {
        self.0
    }

    fn sn(&self) -> SerialNumber {
        self.1
    }
}

/// Whether two entries have their active bits in one page.
pub(crate) fn same_page(a: &impl Placed, b: &impl Placed) -> bool {
    a.shard() == b.shard() && a.sn().0 >> ACTIVE_BITS_LEVEL == b.sn().0 >> ACTIVE_BITS_LEVEL
}

/// The parts of the tree, which differ in what decides on a side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Above the shard roots.
    State,
    /// From the twig roots to the root of this shard.
    Upper(ShardId),
    /// Entry hashes to left root.
    Left(ShardId),
    /// Pages of active bits to right root.
    Right(ShardId),
}

impl Part {
    /// Whether an entry is under the `index`-th node of `level` of this part.
    fn holds(self, level: u8, index: u64, at: &impl Placed) -> bool {
        match self {
            Self::State => at.shard().index() as u64 >> (level - STATE_ROOT_LEVEL) == index,
            // Bits 11.. of the serial number count the twigs, which are level 12.
            Self::Upper(shard) => at.shard() == shard && at.sn().0 >> (level - 1) == index,
            Self::Left(shard) | Self::Right(shard) => {
                at.shard() == shard && at.sn().0 >> level == index
            }
        }
    }
}

/// What is done on the way.
pub(crate) trait Visit<M> {
    /// What a node is to this visitor.
    type Node;
    /// An entry's leaf.
    fn leaf(&mut self, member: &M) -> Self::Node;
    /// The page of an entry, and of all entries behind it that have the same.
    fn page(&mut self, member: &M) -> Self::Node;
    /// A node of `level` under which no entry is; `beside` is an entry under its sibling.
    fn node(&mut self, part: Part, level: u8, beside: Option<&M>) -> Self::Node;
    /// The parent of two nodes of `level`.
    fn join(&mut self, level: u8, left: Self::Node, right: Self::Node) -> Self::Node;
    /// The root of a shard has been come to.
    fn shard_root(&mut self, _shard: ShardId, _root: &Self::Node) {}
}

/// Entries in order, and the last one that was passed.
struct Cursor<I: Iterator> {
    rest: I,
    next: Option<I::Item>,
    last: Option<I::Item>,
}

impl<I: Iterator<Item: Placed>> Cursor<I> {
    fn new(mut members: I) -> Self {
        let next = members.next();
        Self { rest: members, next, last: None }
    }

    fn pass(&mut self) {
        self.last = self.next.take();
        self.next = self.rest.next();
    }
}

/// Goes through the tree over `members`, which ascend by shard and serial number; `levels` are those of each
/// shard's upper tree, at most 51, and no serial number is beyond them. Returns what the state root is.
pub(crate) fn walk<I, V>(members: I, levels: &[u8; SHARDS], visit: &mut V) -> V::Node
where
    I: Iterator<Item: Placed> + Clone,
    V: Visit<I::Item>,
{
    let pages = Cursor::new(members.clone());
    let mut walk = Walk { leaves: Cursor::new(members), pages, levels, visit };
    walk.descend(Part::State, STATE_ROOT_LEVEL + STATE_LEVELS as u8, 0)
}

struct Walk<'w, I: Iterator, V> {
    leaves: Cursor<I>,
    pages: Cursor<I>,
    levels: &'w [u8; SHARDS],
    visit: &'w mut V,
}

impl<I, V> Walk<'_, I, V>
where
    I: Iterator<Item: Placed>,
    V: Visit<I::Item>,
{
    /// The `index`-th node of `level` of a part.
    fn descend(&mut self, part: Part, level: u8, index: u64) -> V::Node {
        let cursor = if matches!(part, Part::Right(_)) { &self.pages } else { &self.leaves };
        let Some(member) = cursor.next.filter(|next| part.holds(level, index, next)) else {
            // The sibling, on the left of an odd node, has been passed already.
            let beside = if index % 2 == 1 { &cursor.last } else { &cursor.next };
            return self.visit.node(part, level, beside.as_ref());
        };
        match (part, level) {
            (Part::State, STATE_ROOT_LEVEL) => {
                let shard = member.shard();
                let levels = self.levels.get(shard.index()).copied().unwrap_or_default();
                let root = self.descend(Part::Upper(shard), TWIG_ROOT_LEVEL + levels, 0);
                self.visit.shard_root(shard, &root);
                root
            }
            (Part::Upper(shard), TWIG_ROOT_LEVEL) => {
                let left = self.descend(Part::Left(shard), TWIG_ROOT_LEVEL - 1, index);
                let right = self.descend(Part::Right(shard), TWIG_ROOT_LEVEL - 1, index);
                self.visit.join(TWIG_ROOT_LEVEL - 1, left, right)
            }
            (Part::Left(_), 0) => {
                self.leaves.pass();
                self.visit.leaf(&member)
            }
            (Part::Right(_), ACTIVE_BITS_LEVEL) => {
                while self.pages.next.is_some_and(|next| same_page(&next, &member)) {
                    self.pages.pass();
                }
                self.visit.page(&member)
            }
            _ => {
                let left = self.descend(part, level - 1, 2 * index);
                let right = self.descend(part, level - 1, 2 * index + 1);
                self.visit.join(level - 1, left, right)
            }
        }
    }
}

/// Counts the nodes that are taken.
#[derive(Default)]
pub(crate) struct Count(pub(crate) usize);

impl<M> Visit<M> for Count {
    type Node = ();

    fn leaf(&mut self, _: &M) {}

    fn page(&mut self, _: &M) {}

    fn node(&mut self, _: Part, _: u8, _: Option<&M>) {
        self.0 += 1;
    }

    fn join(&mut self, _: u8, (): (), (): ()) {}
}
