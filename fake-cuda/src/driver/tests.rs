//! What the driver refuses, and that nothing happens before it must.

use super::*;

/// A driver with a current context, a stream and pinned memory of 64 bytes.
fn ready() -> (State, u64, usize) {
    let mut state = State::new(DEFAULT);
    state.initialise();
    let context = state.retain_context(0);
    state.set_current(context).unwrap();
    let stream = state.create_stream().unwrap();
    let host = state.pin(64, 0).unwrap();
    (state, stream, host)
}

fn host_bytes(state: &State, host: usize) -> Vec<u8> {
    state.pinned(host, 64).unwrap().read(host, 64)
}

fn write(state: &State, host: usize, byte: u8) {
    state.pinned(host, 64).unwrap().write(host, &[byte; 64]);
}

#[track_caller]
fn assert_caught(state: &State, why: &str) {
    assert!(state.violations().contains(why), "{why}: {:?}", state.violations());
}

#[test]
fn a_download_that_nobody_waited_for_is_poison() {
    let (mut state, stream, host) = ready();
    let there = state.allocate(64).unwrap();
    write(&state, host, 1);
    state.put(stream, Work::Upload { to: there, from: host, len: 64 }).unwrap();
    let back = state.pin(64, 0).unwrap();
    state.put(stream, Work::Download { from: there, to: back, len: 64 }).unwrap();
    assert_eq!(host_bytes(&state, back), [0xdb; 64]);
    state.synchronise(stream).unwrap();
    assert_eq!(host_bytes(&state, back), [1; 64]);
    assert_eq!(state.violations(), "");
}

#[test]
fn staging_that_is_written_again_too_early() {
    let (mut state, stream, host) = ready();
    let there = state.allocate(64).unwrap();
    write(&state, host, 1);
    state.put(stream, Work::Upload { to: there, from: host, len: 64 }).unwrap();
    write(&state, host, 2);
    state.synchronise(stream).unwrap();
    assert_caught(&state, "changed after their upload was asked for");
    // And it does what a device may do.
    assert_eq!(state.devices[0].memory.slice(there, 64).unwrap(), [2; 64]);
}

#[test]
fn an_event_forces_what_lies_before_it_and_no_more() {
    let (mut state, stream, host) = ready();
    let (a, b) = (state.allocate(64).unwrap(), state.allocate(64).unwrap());
    write(&state, host, 1);
    state.put(stream, Work::Upload { to: a, from: host, len: 64 }).unwrap();
    let event = state.create_event().unwrap();
    state.record(event, stream).unwrap();
    state.put(stream, Work::Upload { to: b, from: host, len: 64 }).unwrap();
    assert_eq!(state.query_event(event), Err(code::NOT_READY));
    assert_eq!(state.query_event(event), Ok(()));
    state.synchronise_event(event).unwrap();
    let memory = &mut state.devices[0].memory;
    assert_eq!(memory.slice(a, 64).unwrap(), [1; 64]);
    assert_eq!(memory.slice(b, 64).unwrap(), [0xdb; 64]);
    // Another stream that waits for the event of the copy.
    let after = state.create_event().unwrap();
    state.record(after, stream).unwrap();
    let other = state.create_stream().unwrap();
    state.wait_for(other, after).unwrap();
    state.synchronise(other).unwrap();
    assert_eq!(state.devices[0].memory.slice(b, 64).unwrap(), [1; 64]);
}

#[test]
fn memory_that_is_freed_while_work_waits() {
    let (mut state, stream, host) = ready();
    let there = state.allocate(64).unwrap();
    state.put(stream, Work::Upload { to: there + 32, from: host, len: 32 }).unwrap();
    state.free(there).unwrap();
    assert_caught(&state, "which waiting work uses");
    assert_eq!(state.synchronise(stream), Err(code::ILLEGAL_ADDRESS));
    assert_caught(&state, "freed");

    let (mut state, stream, host) = ready();
    let there = state.allocate(64).unwrap();
    state.put(stream, Work::Download { from: there, to: host, len: 64 }).unwrap();
    state.unpin(host).unwrap();
    assert_caught(&state, "which waiting copies use");
    assert_eq!(state.synchronise(stream), Err(code::ILLEGAL_ADDRESS));

    let (mut state, stream, host) = ready();
    let there = state.allocate(64).unwrap();
    state.put(stream, Work::Free { address: there }).unwrap();
    state.put(stream, Work::Download { from: there, to: host, len: 4 }).unwrap();
    assert_eq!(state.synchronise(stream), Err(code::ILLEGAL_ADDRESS));
    assert_caught(&state, "freed");
}

#[test]
fn host_memory_of_the_wrong_kind() {
    let (mut state, stream, host) = ready();
    let there = state.allocate(128).unwrap();
    let pageable = Box::new([0_u8; 64]);
    let from = pageable.as_ptr().addr();
    assert!(state.put(stream, Work::Upload { to: there, from, len: 64 }).is_err());
    assert_caught(&state, "not pinned");
    assert!(state.put(stream, Work::Download { from: there, to: host, len: 65 }).is_err());
    let combined = state.pin(64, 4).unwrap();
    assert!(state.put(stream, Work::Download { from: there, to: combined, len: 64 }).is_err());
    assert_caught(&state, "write-combined");
}

#[test]
fn a_failed_execution_is_the_last_thing_a_context_does() {
    let (mut state, stream, host) = ready();
    let there = state.allocate(64).unwrap();
    for _ in 0..3 {
        state.put(stream, Work::Download { from: there, to: host, len: 64 }).unwrap();
    }
    state.fail("execute".into(), 2, code::LAUNCH_FAILED);
    assert_eq!(state.synchronise(stream), Err(code::LAUNCH_FAILED));
    assert_eq!(state.check("any", Needs::Context), Err(code::LAUNCH_FAILED));
    assert_eq!(state.check("any", Needs::Driver), Ok(()));
    state.release_context(0).unwrap();
    assert_eq!(state.check("any", Needs::Context), Err(code::INVALID_CONTEXT));
    let context = state.retain_context(0);
    state.set_current(context).unwrap();
    assert_eq!(state.check("any", Needs::Context), Ok(()));
}

#[test]
fn handles_and_calls_that_are_not_alive() {
    let (mut state, stream, _) = ready();
    assert!(state.synchronise(stream + 1).is_err());
    assert!(state.set_current(stream).is_err());
    assert!(state.event(stream).is_err());
    assert!(state.kernel(stream).is_err());
    assert!(state.free(stream).is_err());
    state.destroy_stream(stream).unwrap();
    assert!(state.synchronise(stream).is_err());
    assert_eq!(state.violations().lines().count(), 6);
    // The stream of one context in another.
    let (mut state, stream, _) = ready();
    let context = state.retain_context(1);
    state.set_current(context).unwrap();
    assert!(state.synchronise(stream).is_err());
    assert!(state.allocate_in_order(64, stream).is_err());
    let stream = state.create_stream().unwrap();
    assert!(state.allocate_in_order(64, stream).is_err());
    assert_caught(&state, "without memory pools");
}

#[test]
fn the_nth_call_fails_once() {
    let mut state = State::new(DEFAULT);
    state.fail("a".into(), 2, code::OUT_OF_MEMORY);
    assert_eq!(state.failure("a"), Ok(()));
    assert_eq!(state.failure("b"), Ok(()));
    assert_eq!(state.failure("a"), Err(code::OUT_OF_MEMORY));
    assert_eq!(state.failure("a"), Ok(()));
    assert_eq!((state.calls().as_str(), state.planned().as_str()), ("a 3\nb 1\n", ""));
    assert_eq!(state.check("cuMemAlloc", Needs::Driver), Err(code::NOT_INITIALIZED));
}

#[test]
fn modules_are_refused_like_a_driver_would() {
    let (mut state, ..) = ready();
    let text = ".version 8.1\n.target sm_60\n.visible .entry k(\n)\n{\nret;\n}";
    let module = state.load_module(text).unwrap();
    assert_eq!(state.function(module, "other"), Err(code::NOT_FOUND));
    let function = state.function(module, "k").unwrap();
    let kernel = state.kernel(function).unwrap();
    let stream = state.create_stream().unwrap();
    for (grid, block) in [([0, 1, 1], [1, 1, 1]), ([1, 1, 1], [1025, 1, 1]), ([1, 2, 1], [1, 1, 1])]
    {
        let arguments = Arguments { grid, block, shared_bytes: 0, parameters: vec![] };
        assert_eq!(state.launch(stream, kernel.clone(), arguments), Err(code::INVALID_VALUE));
    }
    state.unload_module(module).unwrap();
    assert!(state.kernel(function).is_err());
    let newer = text.replace("8.1", "8.9");
    assert_eq!(state.load_module(&newer), Err(code::UNSUPPORTED_PTX_VERSION));
    assert_eq!(state.load_module(&text.replace("sm_60", "sm_100")), Err(code::INVALID_PTX));
    assert_eq!(state.load_module(&text.replace("ret", "what")), Err(code::INVALID_PTX));
}
