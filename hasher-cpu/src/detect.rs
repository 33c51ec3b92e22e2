//! What this CPU can do: the only place that asks it.
//!
//! A token is proof: `detect` is the only way to make one, and a kernel that needs instructions
//! cannot be named without holding theirs.

macro_rules! token {
    ($(#[$doc:meta])* $name:ident, $arch:literal, $ask:ident: $($feature:tt),*) => {
        $(#[$doc])*
        #[cfg(target_arch = $arch)]
        #[derive(Clone, Copy, Debug)]
        pub(crate) struct $name(());

        #[cfg(target_arch = $arch)]
        impl $name {
            /// The token, or what is missing.
            pub(crate) fn detect() -> Result<Self, &'static str> {
                $(
                    if !std::arch::$ask!($feature) {
                        return Err(concat!("this CPU has no ", $feature));
                    }
                )*
                Ok(Self(()))
            }
        }
    };
}

token! {
    /// Proof of AVX-512 F and BW.
    Avx512, "x86_64", is_x86_feature_detected: "avx512f", "avx512bw"
}

token! {
    /// Proof of AVX-512 F and VL, and of AVX2 beside it.
    Avx512Vl, "x86_64", is_x86_feature_detected: "avx512f", "avx512vl", "avx2"
}

token! {
    /// Proof of AVX2.
    Avx2, "x86_64", is_x86_feature_detected: "avx2"
}

token! {
    /// Proof of SHA-NI, and of SSSE3 and SSE4.1 beside it.
    ShaNi, "x86_64", is_x86_feature_detected: "sha", "ssse3", "sse4.1"
}

token! {
    /// Proof of the SHA2 extension and NEON.
    Sha2Extension, "aarch64", is_aarch64_feature_detected: "sha2", "neon"
}
