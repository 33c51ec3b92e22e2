//! Everything that is measured for the goals.

use hedgerow_benches::hashing::{Messages, TREE_LEAVES, Tree, on_one_thread};
use hedgerow_compare::{
    Contender, Failure, Race,
    contender::{OURS, SHA2},
    messages::MessageInput,
    nodes::NodeInput,
    race::{Effort, Guest},
    single,
};
use hedgerow_hasher_api::BatchHasher;
use hedgerow_hasher_cpu::CpuHasher;
use hedgerow_sampling::remote::Remote;
use std::path::Path;

/// Batch sizes of nodes.
pub(crate) const NODE_BATCHES: [usize; 12] =
    [1, 2, 4, 8, 16, 32, 64, 256, 1024, 16_384, 262_144, 1_000_000];
/// Batch sizes of messages of 60 to 300 bytes.
pub(crate) const MESSAGE_BATCHES: [usize; 3] = [256, 1024, 262_144];
/// The batch that the kernel below and the program below are measured on.
pub(crate) const IN_CACHE: usize = 1024;
/// The kernel of CPUs without AVX-512.
pub(crate) const WITHOUT_AVX512: &str = "cpu:shani4";
/// `sha2` in another process, built for this CPU.
pub(crate) const NATIVE: &str = "sha2, target-cpu=native";

/// All races, and why some contenders were not there.
pub(crate) struct Races {
    /// The plan that calibration chose.
    pub(crate) plan: String,
    /// As [`NODE_BATCHES`].
    pub(crate) nodes: Vec<Race>,
    pub(crate) tree: Race,
    /// As [`MESSAGE_BATCHES`].
    pub(crate) messages: Vec<Race>,
    /// Why [`WITHOUT_AVX512`] was not measured.
    pub(crate) no_sha_ni: Option<String>,
    /// Why [`NATIVE`] was not measured.
    pub(crate) no_native: Option<String>,
}

impl Races {
    /// Runs them; a few lines about it go to standard error.
    pub(crate) fn run(effort: Effort, native: Option<&Path>) -> Result<Self, Failure> {
        let ours = on_one_thread(CpuHasher::new())?;
        let shani4 = CpuHasher::pinned("shani4");
        let no_sha_ni = shani4.as_ref().err().map(ToString::to_string);
        let shani4 = shani4.ok().map(on_one_thread).transpose()?;
        let mut no_native = None;

        let mut nodes = vec![];
        for count in NODE_BATCHES {
            eprintln!("nodes, batch of {count}");
            let input = NodeInput::new(count);
            let mut contenders = input.contenders(&ours);
            let mut guests = vec![];
            if count == IN_CACHE {
                contenders.extend(shani4.as_ref().map(|by| input.hedgerow(WITHOUT_AVX512, by)));
                match native_guest(native, &input)? {
                    Ok(guest) => guests.push(guest),
                    Err(why) => no_native = Some(why),
                }
            }
            nodes.push(Race::run(effort, count, contenders, guests)?);
        }
        eprintln!("a tree of {TREE_LEAVES} leaves");
        let tree = tree(effort, &ours)?;
        let mut messages = vec![];
        for count in MESSAGE_BATCHES {
            eprintln!("messages, batch of {count}");
            let input = MessageInput::new(Messages::entries(count));
            messages.push(Race::run(effort, count, input.contenders(&ours), vec![])?);
        }
        let plan = ours.capabilities().device;
        Ok(Self { plan, nodes, tree, messages, no_sha_ni, no_native })
    }

    /// The race of `count` nodes.
    pub(crate) fn nodes_of(&self, count: usize) -> Option<&Race> {
        self.nodes.iter().find(|race| race.items() == count)
    }
}

/// [`NATIVE`] with the nodes of `input`, or why it is not measured.
fn native_guest(
    program: Option<&Path>,
    input: &NodeInput,
) -> Result<Result<Guest<'static>, String>, Failure> {
    let Some(program) = program else {
        return Ok(Err("give --native PATH; `just bench-hash` does".into()));
    };
    let mut remote = Remote::start(program, input.preimages())?;
    if !remote.digests().iter().eq(input.expected().iter().map(|digest| &digest.0)) {
        return Err(Failure::Wrong { name: NATIVE.into(), batch: input.count() });
    }
    if !remote.built_for_this_cpu() {
        let program = program.display();
        return Ok(Err(format!("{program} was built without -C target-cpu=native")));
    }
    Ok(Ok((NATIVE, Box::new(move |pace| Ok(remote.sample(pace)?)))))
}

/// All levels over a million digests, stored: ours by `levels`, `sha2` as one writes it without a
/// batch hasher.
fn tree(effort: Effort, ours: &dyn BatchHasher) -> Result<Race, Failure> {
    let tree = Tree::new(TREE_LEAVES);
    let digest = |preimage: &[u8; 65]| single::sha2(preimage);
    let mut expected = tree.levels();
    tree.hash_one_by_one(digest, &mut expected);
    let expected = expected.concat();
    let contenders = vec![
        Contender::fallible(OURS, &expected, tree.levels(), |levels| tree.hash(ours, levels)),
        Contender::new(SHA2, &expected, tree.levels(), |levels| {
            tree.hash_one_by_one(digest, levels);
        }),
    ];
    Race::run(effort, tree.nodes(), contenders, vec![])
}
