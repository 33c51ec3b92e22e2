//! Small kernels with one property each; then the shipped kernels with the classic bugs planted.

use super::*;
use crate::ptx;

/// A kernel of one pointer and one number.
fn kernel(body: &str) -> ptx::Kernel {
    let text = format!(
        ".version 8.1\n.target sm_60\n.address_size 64\n.visible .entry k(\n\t.param .u64 out,\n\
         \t.param .u32 n\n)\n.maxntid 256, 1, 1\n{{\n.shared .align 4 .b8 cells[1024];\n\
         ld.param.u64 %rd1, [out];\nld.param.u32 %r1, [n];\nmov.u32 %r2, %tid.x;\n\
         mul.wide.u32 %rd2, %r2, 4;\nadd.s64 %rd3, %rd1, %rd2;\nmov.u64 %rd4, cells;\n\
         add.s64 %rd5, %rd4, %rd2;\n{body}\nret;\n}}\n"
    );
    ptx::module(&text).unwrap().kernels.remove("k").unwrap()
}

struct Bench {
    memory: Memory,
    out: u64,
}

impl Bench {
    fn new(bytes: u64) -> Self {
        let mut memory = Memory::new(0, 1 << 30);
        let out = memory.allocate(bytes).unwrap();
        Self { memory, out }
    }

    fn run_on(
        &mut self,
        body: &str,
        (grid, block): (u32, u32),
        n: u32,
        backward: bool,
    ) -> Result<(), Fault> {
        let kernel = kernel(body);
        let parameters = [&self.out.to_le_bytes()[..], &n.to_le_bytes()].concat();
        let launch = Launch { kernel: &kernel, grid, block, parameters: &parameters, backward };
        run(&launch, &mut self.memory)
    }

    /// Runs in both orders, expecting the same fault.
    fn fault(body: &str, shape: (u32, u32)) -> (Code, String) {
        let [forward, backward] = [false, true]
            .map(|backward| Self::new(1024).run_on(body, shape, 0, backward).unwrap_err());
        assert_eq!(forward.code, backward.code, "{} or {}", forward.text, backward.text);
        (forward.code, forward.text)
    }

    fn words(&mut self) -> Vec<u32> {
        let bytes = self.memory.slice(self.out, 1024).unwrap();
        bytes.as_chunks().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
    }
}

#[test]
fn lanes_part_and_meet_again() {
    // Odd threads count to their number in a loop, even ones write at once; then all add 100.
    let body = "and.b32 %r3, %r2, 1;\nmov.u32 %r4, 0;\nsetp.eq.u32 %p1, %r3, 0;\n@%p1 bra $even;\n\
                $loop:\nadd.s32 %r4, %r4, 1;\nsetp.lt.u32 %p2, %r4, %r2;\n@%p2 bra $loop;\n\
                bra.uni $both;\n$even:\nmov.u32 %r4, 5;\n$both:\nadd.s32 %r4, %r4, 100;\n\
                setp.eq.u32 %p3, %r2, 7;\n@!%p3 st.global.u32 [%rd3], %r4;";
    let mut bench = Bench::new(1024);
    bench.run_on(body, (1, 45), 0, false).unwrap();
    let poison = u32::from_ne_bytes([POISON; 4]);
    for (thread, word) in (0..).zip(bench.words()) {
        let expected = match thread {
            7 | 45.. => poison,
            _ if thread % 2 == 1 => 100 + thread,
            _ => 105,
        };
        assert_eq!(word, expected, "thread {thread}");
    }
}

#[test]
fn threads_meet_at_a_barrier() {
    // Each thread takes what its mirror wrote.
    let body = "st.shared.u32 [%rd5], %r2;\nbar.sync 0;\nmov.u32 %r3, 255;\nsub.s32 %r4, %r3, %r2;\n\
                mul.wide.u32 %rd6, %r4, 4;\nadd.s64 %rd7, %rd4, %rd6;\nld.shared.u32 %r5, [%rd7];\n\
                st.global.u32 [%rd3], %r5;";
    let mut bench = Bench::new(1024);
    bench.run_on(body, (1, 256), 0, true).unwrap();
    assert_eq!(bench.words(), (0..256).rev().collect::<Vec<_>>());
    let (code, text) = Bench::fault(&body.replace("bar.sync 0;\n", ""), (1, 256));
    assert_eq!(code, code::LAUNCH_FAILED);
    assert!(text.contains("race"), "{text}");
}

#[test]
fn two_threads_on_one_word_are_a_race() {
    let one = "st.global.u32 [%rd1], %r2;";
    for (body, shape) in [
        (one, (1, 2)),
        (one, (2, 1)),
        ("ld.global.u32 %r3, [%rd1];\nst.global.u32 [%rd1], %r3;", (1, 2)),
        ("st.shared.u32 [cells], %r2;", (1, 64)),
        ("st.global.u32 [%rd3], %r2;\nld.global.u32 %r3, [%rd1];", (1, 33)),
    ] {
        let (code, text) = Bench::fault(body, shape);
        assert_eq!(code, code::LAUNCH_FAILED);
        assert!(text.contains("race"), "{body}: {text}");
    }
    // Many readers, and a thread with itself, are none.
    Bench::new(4).run_on("ld.global.u32 %r3, [%rd1];", (3, 70), 0, false).unwrap();
    let twice =
        "st.global.u32 [%rd3], %r2;\nst.global.u32 [%rd3], %r1;\nld.global.u32 %r3, [%rd3];";
    Bench::new(1024).run_on(twice, (1, 256), 0, false).unwrap();
}

#[test]
fn barriers_that_not_all_threads_reach() {
    for (condition, threads) in [("lt.u32 %p1, %r2, 7", 32), ("lt.u32 %p1, %r2, 32", 64)] {
        let body = format!("setp.{condition};\n@%p1 bra $over;\nbar.sync 0;\n$over:");
        let (code, text) = Bench::fault(&body, (1, threads));
        assert_eq!(code, code::LAUNCH_FAILED);
        assert!(text.contains("divergent barrier"), "{text}");
        let early = format!("setp.{condition};\n@%p1 bra $end;\nbar.sync 0;\n$end:\nret;");
        assert!(Bench::fault(&early, (1, threads)).1.contains("divergent barrier"));
    }
}

#[test]
fn accesses_outside_or_misaligned() {
    for (body, code, why) in [
        ("ld.global.u32 %r3, [%rd3+4];", code::ILLEGAL_ADDRESS, "out of bounds"),
        ("ld.global.v2.u32 {%r3, %r4}, [%rd1+1020];", code::MISALIGNED_ADDRESS, "misaligned"),
        ("ld.global.u32 %r3, [%rd1+2];", code::MISALIGNED_ADDRESS, "misaligned"),
        ("st.global.u64 [%rd1+1020], %rd2;", code::MISALIGNED_ADDRESS, "misaligned"),
        ("st.global.u32 [%rd1+1000000], %r2;", code::ILLEGAL_ADDRESS, "no allocation"),
        ("st.global.u32 [%rd2], %r2;", code::ILLEGAL_ADDRESS, "no allocation"),
        ("ld.shared.u32 %r3, [%rd5+4];", code::ILLEGAL_ADDRESS, "out of bounds"),
        ("$l:\nbra.uni $l;", code::LAUNCH_TIMEOUT, "endless"),
    ] {
        let (found, text) = Bench::fault(body, (1, 256));
        assert_eq!(found, code, "{body}: {text}");
        assert!(text.contains(why) && text.contains("PTX line"), "{body}: {text}");
    }
}

#[test]
fn freed_memory_is_not_memory() {
    let mut bench = Bench::new(1024);
    bench.memory.release(bench.out);
    let fault = bench.run_on("ld.global.u32 %r3, [%rd1];", (1, 1), 0, false).unwrap_err();
    assert!(fault.text.contains("freed"), "{}", fault.text);
    let again = bench.memory.allocate(1024).unwrap();
    assert!(again > bench.out + 1024);
}

#[test]
fn instructions_that_sha_256_does_not_exercise() {
    let cases = [
        ("shf.l.wrap.b32 %r3, 1, -2147483648, %r2;", [0x8000_0000, 0, 0, 0]),
        ("shf.r.wrap.b32 %r3, 2, 1, %r2;", [2, 0x8000_0001, 0x4000_0000, 0x2000_0000]),
        ("prmt.b32 %r3, 1144201745, -2, 62494;", [0xfffe_22ff; 4]),
        ("lop3.b32 %r3, %r2, 2, 1, 150;", [3, 2, 1, 0]),
        ("bfi.b32 %r3, %r2, 255, 4, 2;", [0xcf, 0xdf, 0xef, 0xff]),
        ("shl.b32 %r3, %r2, 32;", [0; 4]),
        ("shr.s32 %r3, -8, %r2;", [-8_i32 as u32, -4_i32 as u32, -2_i32 as u32, -1_i32 as u32]),
        ("sub.s32 %r4, %r2, 2;\nmin.u32 %r3, %r4, 5;", [5, 5, 0, 1]),
        ("sub.s32 %r4, %r2, 2;\nsetp.lt.s32 %p1, %r4, 0;\nselp.b32 %r3, 1, 0, %p1;", [1, 1, 0, 0]),
        ("sub.s32 %r4, %r2, 2;\nsetp.lt.u32 %p1, %r4, 0;\nselp.b32 %r3, 1, 0, %p1;", [0; 4]),
        ("cvt.s64.s32 %rd6, -1;\nshr.u64 %rd7, %rd6, 60;\ncvt.u32.u64 %r3, %rd7;", [15; 4]),
        ("mad.lo.s32 %r3, %r2, %r2, 7;", [7, 8, 11, 16]),
        (
            "mov.u64 %rd6, 4294967295;\nbfi.b64 %rd7, %rd2, %rd6, 32, 8;\nshr.u64 %rd8, %rd7, 32;\n\
          cvt.u32.u64 %r3, %rd8;",
            [0, 4, 8, 12],
        ),
    ];
    for (body, expected) in cases {
        let mut bench = Bench::new(1024);
        bench.run_on(&format!("{body}\nst.global.u32 [%rd3], %r3;"), (1, 4), 0, false).unwrap();
        assert_eq!(bench.words()[..4], expected, "{body}");
    }
}

/// The kernels that ship.
const SHIPPED: &str = include_str!("../../../hasher-cuda/src/kernels/kernels.ptx");

/// Runs a shipped kernel, changed, on operands that are exactly as large as it needs. Numbers in
/// `arguments` are lengths of operands, or with 0 first a plain number.
fn run_shipped(
    name: &str,
    text: &str,
    (grid, block): (u32, u32),
    arguments: &[Argument],
) -> Result<Vec<u8>, Fault> {
    let module = ptx::module(text).unwrap();
    let kernel = &module.kernels[name];
    let mut memory = Memory::new(0, 1 << 30);
    let mut parameters = vec![0; kernel.parameter_bytes()];
    let mut last = (0, 0);
    for (argument, &(offset, size)) in arguments.iter().zip(&kernel.parameters) {
        let value = match *argument {
            Argument::Number(number) => number,
            Argument::Bytes(ref bytes) => {
                let at = memory.allocate(bytes.len() as u64).unwrap();
                memory.slice(at, bytes.len() as u64).unwrap().copy_from_slice(bytes);
                last = (at, bytes.len() as u64);
                at
            }
        };
        parameters[offset..offset + size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
    for backward in [false, true] {
        let launch = Launch { kernel, grid, block, parameters: &parameters, backward };
        run(&launch, &mut memory)?;
    }
    Ok(memory.slice(last.0, last.1).unwrap().to_vec())
}

#[derive(Clone, Debug)]
enum Argument {
    Number(u64),
    Bytes(Vec<u8>),
}

fn bytes(len: usize) -> Argument {
    Argument::Bytes((0..len).map(|i| (i * 7) as u8).collect())
}

/// The part of the shipped text that holds one kernel, with a change in it, in its place.
fn planted(name: &str, from: &str, to: &str) -> String {
    let start = SHIPPED.find(&format!(".entry {name}(")).unwrap();
    let len = SHIPPED[start..].find("\n}").unwrap();
    let kernel = &SHIPPED[start..start + len];
    assert!(kernel.contains(from), "{name} holds no {from:?}");
    [&SHIPPED[..start], &kernel.replacen(from, to, 1), &SHIPPED[start + len..]].concat()
}

fn twig_arguments() -> [Argument; 3] {
    [bytes(2 * 2048 * 32), bytes(2 * 32), bytes(2 * 2047 * 32)]
}

fn node_arguments(offset: u64) -> [Argument; 8] {
    let number = Argument::Number;
    let (children, out) = (bytes(2 * 32 * 200), bytes(32 * 200));
    [number(3), children, number(0), number(0), number(200), out, number(1), number(offset)]
}

#[test]
fn the_shipped_kernels_are_clean() {
    run_shipped("twigs", SHIPPED, (2, 256), &twig_arguments()).unwrap();
    run_shipped("nodes", SHIPPED, (2, 128), &node_arguments(0)).unwrap();
}

/// What each of the classic bugs looks like here. A test of the tests: were one of these to pass,
/// the suites above would mean little.
#[test]
fn the_classic_bugs_are_caught() {
    let caught = |name, text: &str, shape, arguments: &[Argument], why: &str| {
        let fault = run_shipped(name, text, shape, arguments).unwrap_err();
        assert!(fault.text.contains(why), "{name}, {why}: {}", fault.text);
    };
    // A missing barrier between two levels of a twig.
    let text = planted("twigs", "bar.sync \t0;", "");
    caught("twigs", &text, (2, 256), &twig_arguments(), "race");
    // A barrier inside the branch of the threads that have work.
    let divergent =
        "mov.u32 %r99999, %tid.x;\nsetp.lt.u32 %p999, %r99999, 128;\n@%p999 bar.sync 0;";
    let text = planted("twigs", "bar.sync \t0;", divergent);
    caught("twigs", &text, (2, 256), &twig_arguments(), "divergent barrier");
    // One item too many.
    let text = planted("nodes", "setp.ge.u64", "setp.gt.u64");
    caught("nodes", &text, (2, 128), &node_arguments(0), "out of bounds");
    // The output one place too far.
    caught("nodes", SHIPPED, (2, 128), &node_arguments(1), "out of bounds");
    // Digests at half their distance.
    let text = planted("nodes", ", 6;", ", 2;");
    caught("nodes", &text, (2, 128), &node_arguments(0), "misaligned");
    // Every parent in one place.
    let mut arguments = node_arguments(0);
    arguments[6] = Argument::Number(0);
    caught("nodes", SHIPPED, (2, 128), &arguments, "race");
}
