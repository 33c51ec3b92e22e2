//! Reading and refusing text; registers shared only where lives do not overlap.

use super::*;

fn with_body(body: &str) -> String {
    format!(
        ".version 8.1\n.target sm_60\n.address_size 64\n\n.visible .entry k(\n\
         \t.param .u64 k_param_0,\n\t.param .align 16 .b8 k_param_1[32],\n\t.param .u32 k_param_2\n)\n\
         .maxntid 64, 1, 1\n{{\n\t.reg .b32 \t%r<9>;\n{body}\n}}\n"
    )
}

#[test]
fn a_kernel_is_read() {
    let module = module(&with_body(
        ".shared .align 16 .b8 a[40];\n.shared .align 8 .b8 b[8];\nmov.u32 %r1, -2; // comment\nret;",
    ))
    .unwrap();
    assert_eq!((module.version, module.target), (81, 60));
    let kernel = &module.kernels["k"];
    assert_eq!(kernel.parameters, [(0, 8), (16, 32), (48, 4)]);
    assert_eq!(kernel.parameter_bytes(), 52);
    assert_eq!(kernel.max_threads, Some(64));
    assert_eq!(kernel.shared_bytes, 48);
    assert_eq!(kernel.lines, [15, 16]);
}

#[test]
fn what_is_not_known_is_refused_with_its_line() {
    for (body, why) in [
        ("vote.ballot.b32 %r1, %p1;", "line 13: vote.ballot.b32"),
        ("mov.u32 %r1, 5;\nadd.s32 %r2, %r1;", "line 14: add.s32 %r2, %r1: unexpected number"),
        ("add.s32 %r2, %r1, 1;", "line 13: reads a Narrow register that nothing writes"),
        ("mov.u32 %r1, %laneid;", "no register of this class"),
        ("mov.u32 %rd1, 1;", "no register of this class"),
        ("bra $there;", "unknown label"),
        ("bar.sync 1;", "unknown opcode"),
        ("ld.local.u32 %r1, [0];", "unknown space"),
        ("ld.global.v4.u32 {%r1, %r2}, [%rd1];", "lanes differ"),
        ("mov.u32 %r1, 5", "must end with its line"),
        (".local .b8 x[4];", "unknown opcode"),
    ] {
        let error = module(&with_body(body)).unwrap_err();
        assert!(error.contains(why), "{body}: {error}");
    }
    for text in ["", ".version 8.1", ".version 8.1\n.visible .entry k(\n)\n{\n", ".weird"] {
        assert!(module(text).is_err(), "{text}");
    }
}

#[test]
fn registers_are_shared_when_their_lives_do_not_overlap() {
    let chain: String =
        (1..100).map(|i| format!("add.s32 %r{}, %r{i}, 1;\n", i + 1)).collect::<String>();
    let module = module(&with_body(&format!("mov.u32 %r1, 0;\n{chain}ret;"))).unwrap();
    assert_eq!(module.kernels["k"].registers, [2, 0, 0]);
}

#[test]
fn what_a_loop_needs_again_keeps_its_register() {
    // %r1 lives through the loop though its last mention comes early; %r3 is born and dies in it.
    let body = "mov.u32 %r1, 7;\nmov.u32 %r2, 0;\n$loop:\nadd.s32 %r2, %r2, %r1;\n\
                mov.u32 %r3, 9;\nadd.s32 %r4, %r3, 1;\nsetp.lt.u32 %p1, %r2, %r4;\n@%p1 bra $loop;\nret;";
    let module = module(&with_body(body)).unwrap();
    let kernel = &module.kernels["k"];
    let target = |at: usize| match kernel.code[at].operation {
        Operation::Alu32 { to, .. } => to,
        _ => panic!("no arithmetic at {at}"),
    };
    let (r1, r2, r3, r4) = (target(0), target(1), target(3), target(4));
    assert!(r1 != r2 && ![r1, r2].contains(&r3) && ![r1, r2].contains(&r4));
}
