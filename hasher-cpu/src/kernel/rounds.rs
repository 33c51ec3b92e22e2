//! The order of registers, round by round.

/// Runs `$do!` for rounds 0 to 15 of a stream: what was `a` is `b` in the next.
macro_rules! sixteen {
    ($do:ident $context:tt) => {
        $do!($context  0 [0 1 2 3 4 5 6 7]);
        $do!($context  1 [7 0 1 2 3 4 5 6]);
        $do!($context  2 [6 7 0 1 2 3 4 5]);
        $do!($context  3 [5 6 7 0 1 2 3 4]);
        $do!($context  4 [4 5 6 7 0 1 2 3]);
        $do!($context  5 [3 4 5 6 7 0 1 2]);
        $do!($context  6 [2 3 4 5 6 7 0 1]);
        $do!($context  7 [1 2 3 4 5 6 7 0]);
        $do!($context  8 [0 1 2 3 4 5 6 7]);
        $do!($context  9 [7 0 1 2 3 4 5 6]);
        $do!($context 10 [6 7 0 1 2 3 4 5]);
        $do!($context 11 [5 6 7 0 1 2 3 4]);
        $do!($context 12 [4 5 6 7 0 1 2 3]);
        $do!($context 13 [3 4 5 6 7 0 1 2]);
        $do!($context 14 [2 3 4 5 6 7 0 1]);
        $do!($context 15 [1 2 3 4 5 6 7 0]);
    };
}
